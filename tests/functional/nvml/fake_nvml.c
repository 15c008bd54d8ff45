// SPDX-FileCopyrightText: The devagent authors
// SPDX-License-Identifier: Apache-2.0
/*
 * A stand-in for libnvidia-ml.so.1, so that the genuine pynvml runs without NVIDIA hardware.
 *
 * -DLIBRARY=470 (or 535, 550) builds one that lacks what that driver's library lacks. The text file
 * $FAKE_NVML_STATE says what there is; it is read again at each call. BUS is spelt 0000:3b:00.0:
 *
 *   driver VERSION
 *   gpu BUS UUID MEMORY_MIB PCIID NAME...          PCIID is device and vendor, as 20f110de
 *   set BUS KEY VALUE                              KEY is one of the names in set() below
 *   cluster BUS 32_HEX_DIGITS
 *   instance BUS PROFILE_ID START [COMPUTE [ID]]   a GPU instance with one compute instance, or with COMPUTE (0 or 1)
 *   vgpu BUS TYPE MEMORY_MIB MAX CREATABLE NAME...
 *   link BUS INDEX gpu|switch|npu REMOTE_BUS
 *   fail FUNCTION[@BUS] CODE                       FUNCTION may be *
 *   hang FUNCTION[@BUS] MILLISECONDS
 *   crash FUNCTION[@BUS]
 *
 * What creates or destroys instances, or sets the mode, changes the file. `set BUS activation 19` (or 16) is what
 * a change of mode comes to: it is pending then.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#ifndef LIBRARY
#define LIBRARY 575
#endif

enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, IN_USE = 19,
       NO_ROOM = 23, VERSION = 25 };
enum { GPUS = 16, INSTANCES = 8, TYPES = 64, LINKS = 18, NAME = 96, BUS = 20, LINE = 512 };
enum { GPU_HANDLE = 1, INSTANCE_HANDLE, COMPUTE_HANDLE };

struct gpu;
/* All three kinds of handle begin with their kind, and the last two go on with their GPU. */
struct compute { int kind; struct gpu *gpu; struct instance *instance; };
struct instance { int kind; struct gpu *gpu; unsigned id, profile, start, computes; struct compute compute; };
struct type { unsigned id, creatable, max; uint64_t memory; char name[NAME]; };
struct link { int active, type; char remote[BUS]; };
struct gpu {
	int kind;
	char bus[BUS], uuid[NAME], name[NAME], serial[64];
	uint64_t memory;
	unsigned pciid;
	uint8_t cluster[16];
	/* -1: not supported */
	int mig, pending, activation, host_mode, heterogeneous, active, ecc, uncorrected, retired;
	int corrected_rows, uncorrected_rows, pending_rows, failed_rows;
	int fabric, fabric_status, clique, health, recovery;
	int instances, types, has_links;
	struct instance instance[INSTANCES];
	struct type type[TYPES];
	struct link link[LINKS];
};

static struct gpu gpus[GPUS];
static int count, started;
static char driver[80];

/* ------------------------------------------------------------------------------------ the state file */

static struct gpu *find(const char *bus)
{
	for (int i = 0; i < count; i++)
		if (!strcasecmp(gpus[i].bus, bus))
			return &gpus[i];
	return NULL;
}

static void set(struct gpu *g, const char *key, const char *value)
{
	struct { const char *key; int *value; } known[] = {
		{ "mig", &g->mig }, { "mig_pending", &g->pending }, { "activation", &g->activation },
		{ "host_mode", &g->host_mode },
		{ "heterogeneous", &g->heterogeneous }, { "active", &g->active }, { "ecc", &g->ecc },
		{ "uncorrected", &g->uncorrected }, { "retired", &g->retired },
		{ "corrected_rows", &g->corrected_rows }, { "uncorrected_rows", &g->uncorrected_rows },
		{ "pending_rows", &g->pending_rows }, { "failed_rows", &g->failed_rows },
		{ "fabric", &g->fabric }, { "fabric_status", &g->fabric_status }, { "clique", &g->clique },
		{ "health", &g->health }, { "recovery", &g->recovery },
	};

	if (!strcmp(key, "serial"))
		snprintf(g->serial, sizeof(g->serial), "%s", value);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(key, known[i].key)) {
			*known[i].value = atoi(value);
			return;
		}
}

static void add_gpu(const char *line)
{
	struct gpu *g = &gpus[count];

	memset(g, 0, sizeof(*g));
	g->kind = GPU_HANDLE;
	g->mig = g->pending = g->host_mode = g->heterogeneous = g->ecc = g->uncorrected = g->retired = -1;
	g->corrected_rows = g->fabric = g->recovery = -1;
	if (count < GPUS && sscanf(line, "gpu %19s %95s %lu %x %95[^\n]", g->bus, g->uuid, &g->memory, &g->pciid, g->name) == 5)
		count++;
}

static void add_part(const char *line)
{
	char bus[BUS], key[32], value[64], remote[BUS];
	struct type t = { 0 };
	unsigned a, b, c = 1, d = 0;
	struct gpu *g;

	if (sscanf(line, "%*s %19s", bus) != 1 || !(g = find(bus)))
		return;
	if (sscanf(line, "set %*s %31s %63s", key, value) == 2)
		set(g, key, value);
	if (sscanf(line, "cluster %*s %63s", value) == 1)
		for (int i = 0; i < 16; i++)
			sscanf(value + 2 * i, "%2hhx", &g->cluster[i]);
	if (sscanf(line, "instance %*s %u %u %u %u", &a, &b, &c, &d) >= 2) {
		struct instance *i = &g->instance[g->instances++];

		*i = (struct instance){ INSTANCE_HANDLE, g, d ? d : (unsigned)g->instances, a, b, c,
					{ COMPUTE_HANDLE, g, i } };
	}
	if (sscanf(line, "vgpu %*s %u %lu %u %u %95[^\n]", &t.id, &t.memory, &t.max, &t.creatable, t.name) == 5)
		g->type[g->types++] = t;
	if (sscanf(line, "link %*s %u %31s %19s", &a, key, remote) == 3) {
		struct link *l = &g->link[a];

		g->has_links = l->active = 1;
		l->type = !strcmp(key, "gpu") ? 0 : !strcmp(key, "switch") ? 2 : 1;
		snprintf(l->remote, sizeof(l->remote), "%s", remote);
	}
}

/* Tells whether a pattern such as nvmlDeviceGetUUID@0000:3b:00.0 is about this call. */
static int fits(char *pattern, const char *function, const char *bus)
{
	char *at = strchr(pattern, '@');

	if (at)
		*at = 0;
	return (!strcmp(pattern, "*") || !strcmp(pattern, function)) && (!at || !strcasecmp(at + 1, bus));
}

/* Reads the state; gives the return code to inject, or OK. */
static int enter(const char *function, const char *bus)
{
	FILE *file = fopen(getenv("FAKE_NVML_STATE") ?: "", "r");
	char line[LINE], pattern[NAME];
	int value, code = OK;

	if (!file)
		return NO_DRIVER;
	count = 0;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "gpu ", 4))
			add_gpu(line);
		else if (sscanf(line, "fail %95s %d", pattern, &value) == 2 && fits(pattern, function, bus))
			code = value;
		else if (sscanf(line, "hang %95s %d", pattern, &value) == 2 && fits(pattern, function, bus))
			nanosleep(&(struct timespec){ value / 1000, value % 1000 * 1000000L }, NULL);
		else if (sscanf(line, "crash %95s", pattern) == 1 && fits(pattern, function, bus))
			*(volatile int *)8 = 0;
		else if (sscanf(line, "driver %79s", driver) != 1)
			add_part(line);
	}
	fclose(file);
	return code;
}

/* Puts `with` in the place of the line that begins with the words of `old`, or at the end; "" only removes. */
static void rewrite(const char *old, const char *with)
{
	const char *path = getenv("FAKE_NVML_STATE");
	char fresh[LINE], lock[LINE], line[LINE];
	size_t length = strlen(old);
	FILE *from, *to;
	int replaced = 0, fd;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd = open(lock, O_RDWR | O_CREAT, 0600);
	flock(fd, LOCK_EX);
	from = fopen(path, "r");
	to = fopen(fresh, "w");
	while (fgets(line, sizeof(line), from)) {
		if (!strncmp(line, old, length) && strchr(" \n", line[length])) {
			fputs(with, to);
			replaced = 1;
		} else {
			fputs(line, to);
		}
	}
	if (!replaced)
		fputs(with, to);
	fclose(from);
	fclose(to);
	rename(fresh, path);
	close(fd);
}

static struct gpu *gpu_of(void *handle)
{
	struct gpu *g = handle;

	return g->kind == GPU_HANDLE ? g : ((struct instance *)handle)->gpu;
}

#define ENTER(bus) do { int code_ = enter(__func__, bus); if (code_) return code_; \
			if (!started) return UNINITIALIZED; } while (0)
#define ABOUT(handle) struct gpu *g __attribute__((unused)) = gpu_of(handle); ENTER(g->bus)
#define NEED(value) do { if ((value) < 0) return NOT_SUPPORTED; } while (0)

static int put(char *out, unsigned size, const char *text)
{
	return snprintf(out, size, "%s", text) < (int)size ? OK : TOO_SMALL;
}

/* -------------------------------------------------------------------------------- the library itself */

int nvmlInitWithFlags(unsigned flags)
{
	int code = enter(__func__, "");

	(void)flags;
	started += !code;
	return code;
}

int nvmlShutdown(void)
{
	const char *path = getenv("FAKE_NVML_CLOSED");
	FILE *file = path ? fopen(path, "a") : NULL;

	ENTER("");
	if (file) {
		fputs("closed\n", file);
		fclose(file);
	}
	return --started, OK;
}

const char *nvmlErrorString(int code) { return code == 28 ? "GPU Not Found" : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) { ENTER(""); return put(out, size, driver); }

/* ---------------------------------------------------------------------------------------- what it is */

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out)
{
	unsigned domain, b, d;
	char address[BUS];

	/* As the library itself spells it, or the short form of old. */
	if (sscanf(bus, "%8X:%2X:%2X.0", &domain, &b, &d) != 3)
		return INVALID;
	snprintf(address, sizeof(address), "%04x:%02x:%02x.0", domain, b, d);
	ENTER(address);
	*out = find(address);
	return *out ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(void *h, char *out, unsigned size) { ABOUT(h); return put(out, size, g->name); }

int nvmlDeviceGetUUID(void *h, char *out, unsigned size)
{
	struct instance *i = h;
	char uuid[NAME + 16];

	ABOUT(h);
	if (i->kind == GPU_HANDLE)
		return put(out, size, g->uuid);
	snprintf(uuid, sizeof(uuid), "MIG-%u-%.60s", i->id, g->uuid + 4);
	return put(out, size, uuid);
}

int nvmlDeviceGetSerial(void *h, char *out, unsigned size)
{
	ABOUT(h);
	return *g->serial ? put(out, size, g->serial) : NOT_SUPPORTED;
}

int nvmlDeviceGetMemoryInfo(void *h, uint64_t out[3])
{
	ABOUT(h);
	out[0] = g->memory << 20;
	out[1] = out[0] - (1 << 20);
	out[2] = 1 << 20;
	return OK;
}

/* ----------------------------------------------------------------------------------------------- MIG */

/* An A100 with 40 GB: index and id of the profile, compute and memory slices, instances, memory. */
static const struct profile { unsigned index, id, slices, size, instances, memory; const char *name; } profiles[] = {
	{ 0, 19, 1, 1, 7, 4864, "MIG 1g.5gb" }, { 1, 14, 2, 2, 3, 9856, "MIG 2g.10gb" },
	{ 2, 9, 3, 4, 2, 19968, "MIG 3g.20gb" }, { 4, 0, 7, 8, 1, 40192, "MIG 7g.40gb" },
	{ 7, 20, 1, 1, 1, 4864, "MIG 1g.5gb+me" },
};
#define EACH(p) (const struct profile *p = profiles; p < profiles + sizeof(profiles) / sizeof(*profiles); p++)

int nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending)
{
	ABOUT(h);
	NEED(g->mig);
	*current = g->mig;
	*pending = g->pending < 0 ? g->mig : g->pending;
	return OK;
}

struct profile_info { unsigned id, p2p, slices, instances, multiprocessors, copy, decode, encode, jpeg, ofa; uint64_t memory; };
struct profile_info_v2 { unsigned version, rest[10]; uint64_t memory; char name[NAME]; };

int nvmlDeviceGetGpuInstanceProfileInfo(void *h, unsigned index, struct profile_info *out)
{
	ABOUT(h);
	if (index >= 18)
		return INVALID;
	for EACH(p)
		if (g->mig == 1 && p->index == index) {
			*out = (struct profile_info){ .id = p->id, .slices = p->slices, .instances = p->instances, .memory = p->memory };
			return OK;
		}
	return NOT_SUPPORTED;
}

#if LIBRARY >= 535
int nvmlDeviceGetGpuInstanceProfileInfoV(void *h, unsigned index, struct profile_info_v2 *out)
{
	ABOUT(h);
	if (index >= 18)
		return INVALID;
	for EACH(p)
		if (g->mig == 1 && p->index == index) {
			out->rest[0] = p->id;
			out->rest[2] = p->slices;
			out->rest[3] = p->instances;
			out->memory = p->memory;
			return put(out->name, sizeof(out->name), p->name);
		}
	return NOT_SUPPORTED;
}
#endif

int nvmlDeviceGetGpuInstanceRemainingCapacity(void *h, unsigned id, unsigned *out)
{
	unsigned slices = 7, size = 8;

	ABOUT(h);
	for (int i = 0; i < g->instances; i++)
		for EACH(p)
			if (p->id == g->instance[i].profile)
				slices -= p->slices, size -= p->size;
	for EACH(p)
		if (p->id == id) {
			*out = slices / p->slices < size / p->size ? slices / p->slices : size / p->size;
			if (*out > p->instances)
				*out = p->instances;
		}
	return OK;
}

int nvmlDeviceGetGpuInstances(void *h, unsigned id, void **out, unsigned *n)
{
	ABOUT(h);
	*n = 0;
	for (int i = 0; i < g->instances; i++)
		if (g->instance[i].profile == id)
			out[(*n)++] = &g->instance[i];
	return OK;
}

struct instance_info { void *device; unsigned id, profile, start, size; };
int nvmlGpuInstanceGetInfo(struct instance *i, struct instance_info *out)
{
	ABOUT(i);
	*out = (struct instance_info){ g, i->id, i->profile, i->start, 0 };
	for EACH(p)
		if (p->id == i->profile)
			out->size = p->size;
	return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *out) { ABOUT(h); *out = g->mig < 0 ? 0 : 7; return OK; }

/* The first index is always a hole. A GPU instance without a compute instance is no MIG device. */
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **out)
{
	ABOUT(h);
	if (!index || (int)index > g->instances || !g->instance[index - 1].computes)
		return NOT_FOUND;
	return *out = &g->instance[index - 1], OK;
}

int nvmlDeviceGetGpuInstanceId(struct instance *i, unsigned *out) { ABOUT(i); *out = i->id; return OK; }

static const struct profile *profile_of(unsigned id)
{
	for EACH(p)
		if (p->id == id)
			return p;
	return NULL;
}

struct placement { unsigned start, size; };

/* All there are on an empty GPU, as the library gives them: 1g fits anywhere but in the last slice. */
static unsigned placements(const struct profile *p, struct placement *out)
{
	unsigned n = 0;

	for (unsigned start = 0; start + p->size <= 8 && (start < 7); start += p->size)
		out[n++] = (struct placement){ start, p->size };
	return n < p->instances || p->index == 7 ? n : p->instances;
}

int nvmlDeviceGetGpuInstancePossiblePlacements_v2(void *h, unsigned id, struct placement *out, unsigned *n)
{
	struct placement found[8];
	unsigned have;

	ABOUT(h);
	if (!profile_of(id))
		return INVALID;
	have = placements(profile_of(id), found);
	if (out && *n < have)
		return *n = have, TOO_SMALL;
	if (out)
		memcpy(out, found, have * sizeof(*out));
	return *n = have, OK;
}

static int created(struct gpu *g, const struct profile *p, unsigned start, void **out)
{
	unsigned id = 1, slices = p->slices;
	char line[LINE];

	for (int i = 0; i < g->instances; i++) {
		const struct profile *other = profile_of(g->instance[i].profile);

		slices += other->slices;
		if (start < g->instance[i].start + other->size && g->instance[i].start < start + p->size)
			return NO_ROOM;
		if (g->instance[i].id >= id)
			id = g->instance[i].id + 1;
	}
	if (slices > 7)
		return NO_ROOM;
	snprintf(line, sizeof(line), "instance %s %u %u 0 %u\n", g->bus, p->id, start, id);
	rewrite("nothing", line);
	enter("", g->bus);
	*out = &g->instance[g->instances - 1];
	return OK;
}

int nvmlDeviceCreateGpuInstanceWithPlacement(void *h, unsigned id, const struct placement *where, void **out)
{
	struct placement found[8];

	ABOUT(h);
	if (g->mig != 1)
		return NOT_SUPPORTED;
	if (!profile_of(id))
		return INVALID;
	for (unsigned i = 0; i < placements(profile_of(id), found); i++)
		if (found[i].start == where->start && found[i].size == where->size)
			return created(g, profile_of(id), where->start, out);
	return INVALID;
}

static void keep(struct instance *i, int computes)
{
	char old[NAME], line[LINE] = "";

	snprintf(old, sizeof(old), "instance %s %u %u", i->gpu->bus, i->profile, i->start);
	if (computes >= 0)
		snprintf(line, sizeof(line), "%s %d %u\n", old, computes, i->id);
	rewrite(old, line);
}

int nvmlGpuInstanceDestroy(struct instance *i)
{
	ABOUT(i);
	if (i->computes)
		return IN_USE;
	return keep(i, -1), OK;
}

/* Compute instances of one slice and of as many as the profile has; their ids are those of their index. */
struct compute_info { unsigned id, slices, instances, multiprocessors, copy, decode, encode, jpeg, ofa; };
struct compute_info_v2 { unsigned version, rest[9]; char name[NAME]; };

static unsigned compute_slices(unsigned index) { return index < 3 ? index + 1 : index == 4 ? 7 : 0; }

int nvmlGpuInstanceGetComputeInstanceProfileInfo(struct instance *i, unsigned index, unsigned engines,
						 struct compute_info *out)
{
	unsigned slices = compute_slices(index);

	ABOUT(i);
	if (index >= 9 || engines)
		return INVALID;
	if (!slices || (slices != 1 && slices != profile_of(i->profile)->slices))
		return NOT_SUPPORTED;
	*out = (struct compute_info){ .id = index, .slices = slices, .instances = profile_of(i->profile)->slices / slices };
	return OK;
}

#if LIBRARY >= 535
int nvmlGpuInstanceGetComputeInstanceProfileInfoV(struct instance *i, unsigned index, unsigned engines,
						  struct compute_info_v2 *out)
{
	int code = nvmlGpuInstanceGetComputeInstanceProfileInfo(i, index, engines, (struct compute_info *)out->rest);

	if (!code)
		snprintf(out->name, sizeof(out->name), "MIG %uc", out->rest[1]);
	return code;
}
#endif

int nvmlGpuInstanceCreateComputeInstance(struct instance *i, unsigned id, void **out)
{
	ABOUT(i);
	if (i->computes)
		return NO_ROOM;
	if (compute_slices(id) != profile_of(i->profile)->slices)
		return INVALID;
	keep(i, 1);
	return *out = &i->compute, OK;
}

int nvmlGpuInstanceGetComputeInstances(struct instance *i, unsigned id, void **out, unsigned *n)
{
	ABOUT(i);
	*n = 0;
	if (i->computes && compute_slices(id) == profile_of(i->profile)->slices)
		out[(*n)++] = &i->compute;
	return OK;
}

int nvmlComputeInstanceDestroy(struct compute *c)
{
	ABOUT(c);
	return keep(c->instance, 0), OK;
}

int nvmlDeviceSetMigMode(void *h, unsigned mode, unsigned *activation)
{
	char old[NAME], line[LINE];

	ABOUT(h);
	NEED(g->mig);
	if (mode > 1)
		return INVALID;
	*activation = (int)mode == g->mig ? OK : g->activation;
	snprintf(old, sizeof(old), "set %s mig_pending", g->bus);
	snprintf(line, sizeof(line), "%s %u\n", old, mode);
	rewrite(old, line);
	if (*activation)
		return OK;
	snprintf(old, sizeof(old), "set %s mig", g->bus);
	snprintf(line, sizeof(line), "%s %u\n", old, mode);
	rewrite(old, line);
	return OK;
}

/* ---------------------------------------------------------------------------------------------- vGPU */

static int ids(struct gpu *g, unsigned *n, unsigned *out, int creatable)
{
	unsigned found[TYPES], have = 0;

	if (g->host_mode < 0)
		return NOT_SUPPORTED;
	for (int i = 0; i < g->types; i++)
		if (!creatable || g->type[i].creatable)
			found[have++] = g->type[i].id;
	if (have > *n)
		return *n = have, TOO_SMALL;
	if (have)
		memcpy(out, found, have * sizeof(*out));
	return *n = have, OK;
}

int nvmlDeviceGetSupportedVgpus(void *h, unsigned *n, unsigned *out) { ABOUT(h); return ids(g, n, out, 0); }

int nvmlDeviceGetCreatableVgpus(void *h, unsigned *n, unsigned *out) { ABOUT(h); return ids(g, n, out, 1); }

int nvmlDeviceGetActiveVgpus(void *h, unsigned *n, unsigned *out)
{
	unsigned have;

	ABOUT(h);
	NEED(g->host_mode);
	have = g->active;
	if (have > *n)
		return *n = have, TOO_SMALL;
	for (unsigned i = 0; i < have; i++)
		out[i] = i + 1;
	return *n = have, OK;
}

static struct type *type_of(unsigned id)
{
	for (int i = 0; i < count; i++)
		for (int k = 0; k < gpus[i].types; k++)
			if (gpus[i].type[k].id == id)
				return &gpus[i].type[k];
	return NULL;
}

int nvmlVgpuTypeGetName(unsigned id, char *out, unsigned *size)
{
	ENTER("");
	return type_of(id) ? put(out, *size, type_of(id)->name) : INVALID;
}

int nvmlVgpuTypeGetFramebufferSize(unsigned id, uint64_t *out)
{
	ENTER("");
	return type_of(id) ? *out = type_of(id)->memory << 20, OK : INVALID;
}

int nvmlVgpuTypeGetMaxInstances(void *h, unsigned id, unsigned *out)
{
	ABOUT(h);
	return type_of(id) ? *out = type_of(id)->max, OK : INVALID;
}

int nvmlDeviceGetHostVgpuMode(void *h, unsigned *out)
{
	ABOUT(h);
	NEED(g->host_mode);
	return *out = g->host_mode, OK;
}

#if LIBRARY >= 550
struct heterogeneous { unsigned version, mode; };
int nvmlDeviceGetVgpuHeterogeneousMode(void *h, struct heterogeneous *out)
{
	ABOUT(h);
	NEED(g->heterogeneous);
	return out->mode = g->heterogeneous, OK;
}
#endif

/* --------------------------------------------------------------------------------- NVLink and fabric */

int nvmlDeviceGetNvLinkState(void *h, unsigned index, unsigned *out)
{
	ABOUT(h);
	if (!g->has_links)
		return NOT_SUPPORTED;
	if (index >= LINKS)
		return INVALID;
	return *out = g->link[index].active, OK;
}

#if LIBRARY >= 535
int nvmlDeviceGetNvLinkRemoteDeviceType(void *h, unsigned index, unsigned *out)
{
	ABOUT(h);
	return *out = g->link[index].type, OK;
}
#endif

struct pci_info { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; };
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *h, unsigned index, struct pci_info *out)
{
	ABOUT(h);
	memset(out, 0, sizeof(*out));
	sscanf(g->link[index].remote, "%x:%x:%x", &out->domain, &out->bus, &out->device);
	out->id = g->link[index].type == 2 ? 0x22a310de : 0x20f110de;
	snprintf(out->text, sizeof(out->text), "%08X:%02X:%02X.0", out->domain, out->bus, out->device);
	return OK;
}

#if LIBRARY >= 535
struct fabric { uint8_t cluster[16]; unsigned status, clique, state; };
struct fabric_v { unsigned version; struct fabric info; unsigned mask; uint8_t summary; };

int nvmlDeviceGetGpuFabricInfo(void *h, struct fabric *out)
{
	ABOUT(h);
	NEED(g->fabric);
	*out = (struct fabric){ .status = g->fabric_status, .clique = g->clique, .state = g->fabric };
	memcpy(out->cluster, g->cluster, sizeof(g->cluster));
	return OK;
}

#if LIBRARY >= 550
int nvmlDeviceGetGpuFabricInfoV(void *h, struct fabric_v *out)
{
	ABOUT(h);
	NEED(g->fabric);
	if (out->version != 0x2000024 && (LIBRARY < 570 || out->version != 0x3000028))
		return VERSION;
	out->info = (struct fabric){ .status = g->fabric_status, .clique = g->clique, .state = g->fabric };
	memcpy(out->info.cluster, g->cluster, sizeof(g->cluster));
	if (out->version == 0x3000028)
		out->summary = g->health;
	return OK;
}
#endif
#endif

/* --------------------------------------------------------------------------------------------- health */

int nvmlDeviceGetEccMode(void *h, unsigned *current, unsigned *pending)
{
	ABOUT(h);
	NEED(g->ecc);
	return *current = *pending = g->ecc, OK;
}

int nvmlDeviceGetTotalEccErrors(void *h, unsigned type, unsigned counter, uint64_t *out)
{
	ABOUT(h);
	NEED(g->uncorrected);
	return type == 1 && counter == 0 ? *out = g->uncorrected, OK : INVALID;
}

int nvmlDeviceGetRemappedRows(void *h, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
	ABOUT(h);
	NEED(g->corrected_rows);
	if (g->instances)
		return NOT_SUPPORTED;
	*corrected = g->corrected_rows;
	*uncorrected = g->uncorrected_rows;
	*pending = g->pending_rows;
	*failed = g->failed_rows;
	return OK;
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *h, unsigned *out)
{
	ABOUT(h);
	NEED(g->retired);
	return *out = g->retired, OK;
}

struct field { uint32_t id, scope; int64_t time, latency; uint32_t type, code; uint64_t value; };

static void fill(struct gpu *g, struct field *f)
{
	int rows[] = { g->corrected_rows, g->uncorrected_rows, g->pending_rows, g->failed_rows };

	f->code = NOT_SUPPORTED;
	if (f->id == 230 && LIBRARY < 570) {
		f->code = INVALID;
	} else if (f->id == 230 && g->recovery >= 0) {
		f->value = g->recovery;
		f->code = g->recovery == 99 ? 999 : OK;
	} else if (f->id >= 142 && f->id <= 145 && g->corrected_rows >= 0) {
		f->value = rows[f->id - 142];
		f->code = OK;
	}
}

int nvmlDeviceGetFieldValues(void *h, int n, struct field *fields)
{
	ABOUT(h);
	for (int i = 0; i < n; i++)
		fill(g, &fields[i]);
	return OK;
}
