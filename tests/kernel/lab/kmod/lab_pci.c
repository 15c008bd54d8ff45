// SPDX-License-Identifier: GPL-2.0
/*
 * lab_pci: software-only PCIe accelerators with SR-IOV and mdev, for tests.
 *
 * Only the config space of a device is emulated (no BAR, no interrupt).
 * Everything else is the real kernel: the PCI core enumerates it, writing
 * sriov_numvfs creates real VFs with physfn/virtfnN, vfio-pci binds through
 * driver_override, real uevents are sent, mdev types appear below
 * mdev_supported_types/.  A device is put
 *   - on an existing empty bus, normally the one behind an empty
 *     pcie-root-port of QEMU (hotplug=off): it then has that port's NUMA node
 *     and, with QEMU's intel-iommu, a real iommu_group, so vfio-pci binds; or
 *   - on a new root bus (a number that is not in use, in any domain): NUMA
 *     node of your choice, but no iommu_group (not in the ACPI DMAR table), so
 *     that vfio-pci refuses it, like on a host booted without an IOMMU.
 *
 * parameters   drivers=A,B  names of the PF drivers this module registers
 *              bar_base=ADDR physical address of RAM that the kernel does not
 *                           use (boot with e.g. memmap=16M$0x3e000000), for DFL
 * control      /sys/devices/platform/lab_pci/
 *   add     one line, what it says is read as
 *           DOMAIN:BUS VENDOR DEVICE CLASS SUBSYSTEM DRIVER NUMA VFS VFDEVICE KIND SERIAL
 *           hexadecimal but for DRIVER (one of `drivers`, or that of another
 *           module, or - for none), NUMA (a new root bus only; -1 or an offline
 *           node: none), VFS and KIND (plain, mdev: the PF is an mdev parent,
 *           dfl: a DFL FPGA); SERIAL 0: no device serial number
 *   remove  DOMAIN:BUS of the device that is pulled out
 *   fail_sriov  errno with which writes of sriov_numvfs fail (0: they don't)
 *   fail_probe  errno with which our drivers refuse to bind (0: they don't)
 *   delay_ms    time that enabling VFs and creating an mdev takes
 *
 * KIND dfl (use 8086:0b30 class 120000, an Intel PAC N3000): a 1 MiB BAR 0 with a
 * DFL (device feature list): FME with a partial reconfiguration block, one port
 * with an AFU.  The kernel's own dfl-pci driver (load it first) then makes
 * /dev/dfl-fme.0, /dev/dfl-port.0, fpga_manager, fpga_bridge, fpga_region.  A
 * thread plays the hardware: it acknowledges resets and partial
 * reconfigurations.  The last 32 bits of an image decide the outcome:
 *   0xBAD000NN = error, NN goes to the PR error register (02 = CRC error)
 *   0xDEAD0000 = the hardware never completes (the driver gives up after 8 s)
 *   other      = success; afu_id becomes <32 hex digits: 1ab0af00 0...0 value>
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/vfio.h>

#define OFF_PM		0x40
#define OFF_EXP		0x50
#define OFF_SRIOV	0x100
#define OFF_DSN		0x160
#define VF_OFFSET	4	/* first VF at function .4, as NVIDIA GPUs do */
#define MDEV_UNITS	16

#define MAX_DRIVERS	8

static char *drivers[MAX_DRIVERS] = { "lab_gpu" };
static int ndrivers = 1;
module_param_array(drivers, charp, &ndrivers, 0444);
MODULE_PARM_DESC(drivers, "names of the PF drivers");

static ulong bar_base;
module_param(bar_base, ulong, 0444);
MODULE_PARM_DESC(bar_base, "physical address of unused RAM for DFL BARs");

static int fail_sriov, fail_probe, delay_ms;

struct lab_dev {
	struct pci_sysdata sd;		/* of a new root bus */
	struct pci_bus *bus;
	struct pci_ops *old_ops;	/* of an existing bus, else NULL */
	struct resource busn;
	bool is_mdev;
	char driver[32];		/* which may bind to the PF */
	int bar_nr;			/* DFL: which MiB of bar_base is its BAR 0 */
	u32 bar;			/* ... and its address */
	void __iomem *mem;		/* DFL: the same, for the hardware thread */
	struct task_struct *hw;
	u16 totalvfs;
	u8 pf[4096];			/* config space of the PF */
	u8 vf[256];			/* ... of every VF (read-only here) */
	u16 vf_cmd[256];
	/* mdev parent */
	struct mdev_parent parent;
	bool parent_ok;
	struct mdev_type types[2];
	struct mdev_type *ptypes[2];
	atomic_t units;
};

static struct lab_dev *labs[2][256];	/* domain 0 and any other, by bus number */
static int long_domain;			/* the other, while it has devices */
static unsigned long bars_used;
static DEFINE_MUTEX(lab_lock);
static struct platform_device *ctl;

static struct lab_dev **lab_of(struct pci_bus *bus)
{
	return &labs[pci_domain_nr(bus) != 0][bus->number];
}

/* ------------------------------------------------------------ config space */
static void w16(u8 *p, u16 v) { p[0] = v; p[1] = v >> 8; }
static void w32(u8 *p, u32 v) { w16(p, v); w16(p + 2, v >> 16); }
static u16 r16(const u8 *p) { return p[0] | p[1] << 8; }

static bool vf_present(struct lab_dev *l, unsigned int devfn)
{
	return l->totalvfs &&
	       (r16(l->pf + OFF_SRIOV + PCI_SRIOV_CTRL) & PCI_SRIOV_CTRL_VFE) &&
	       devfn >= VF_OFFSET &&
	       devfn < VF_OFFSET + r16(l->pf + OFF_SRIOV + PCI_SRIOV_NUM_VF);
}

static int cfg_read(struct pci_bus *bus, unsigned int devfn, int where,
		    int size, u32 *val)
{
	struct lab_dev *l = *lab_of(bus);
	int i;

	*val = ~0;
	if (!l || (devfn && !vf_present(l, devfn)))
		return PCIBIOS_DEVICE_NOT_FOUND;
	for (i = 0, *val = 0; i < size; i++) {
		u8 b;

		if (!devfn)
			b = l->pf[where + i];
		else if (where + i < 256)
			b = l->vf[where + i];
		else
			b = 0;
		*val |= b << (8 * i);
	}
	if (devfn && where == PCI_COMMAND)
		*val = (*val & ~0xffff) | l->vf_cmd[devfn];
	return PCIBIOS_SUCCESSFUL;
}

/* writable bits of the PF's config space, byte by byte */
static u8 wmask(struct lab_dev *l, int where)
{
	switch (where) {
	case PCI_COMMAND:			return 0x47;
	case PCI_COMMAND + 1:			return 0x05;
	case PCI_BASE_ADDRESS_0 + 2:		return l->bar ? 0xf0 : 0;
	case PCI_BASE_ADDRESS_0 + 3:		return l->bar ? 0xff : 0;
	case PCI_CACHE_LINE_SIZE:
	case PCI_INTERRUPT_LINE:		return 0xff;
	case OFF_PM + PCI_PM_CTRL:		return 0x03;
	case OFF_EXP + PCI_EXP_DEVCTL:		return 0xff;
	case OFF_EXP + PCI_EXP_DEVCTL + 1:	return 0x7f; /* FLR reads as 0 */
	}
	if (!l->totalvfs)
		return 0;
	switch (where - OFF_SRIOV) {
	case PCI_SRIOV_CTRL:			return 0x1f;
	case PCI_SRIOV_NUM_VF:
	case PCI_SRIOV_NUM_VF + 1:		return 0xff;
	case PCI_SRIOV_SYS_PGSIZE ... PCI_SRIOV_SYS_PGSIZE + 3: return 0xff;
	}
	return 0;
}

static int cfg_write(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 val)
{
	struct lab_dev *l = *lab_of(bus);
	int i;

	if (!l)
		return PCIBIOS_DEVICE_NOT_FOUND;
	if (devfn) {
		if (!vf_present(l, devfn))
			return PCIBIOS_DEVICE_NOT_FOUND;
		if (where == PCI_COMMAND)
			l->vf_cmd[devfn] = val & 0x0547;
		return PCIBIOS_SUCCESSFUL;
	}
	for (i = 0; i < size; i++) {
		u8 m = wmask(l, where + i);

		l->pf[where + i] = (l->pf[where + i] & ~m) | ((val >> (8 * i)) & m);
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops lab_ops = { .read = cfg_read, .write = cfg_write };

static void fill_common(u8 *c, u16 ven, u16 dev, u32 cls)
{
	w16(c + PCI_VENDOR_ID, ven);
	w16(c + PCI_DEVICE_ID, dev);
	w16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
	w32(c + PCI_CLASS_REVISION, cls << 8 | 0xa1);
	c[PCI_CAPABILITY_LIST] = OFF_PM;
	c[OFF_PM] = PCI_CAP_ID_PM;
	c[OFF_PM + 1] = OFF_EXP;
	w16(c + OFF_PM + PCI_PM_PMC, 3);
	w16(c + OFF_PM + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
	c[OFF_EXP] = PCI_CAP_ID_EXP;
	w16(c + OFF_EXP + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	w32(c + OFF_EXP + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR);
	w32(c + OFF_EXP + PCI_EXP_LNKCAP, 4 | 16 << 4);		/* 16 GT/s x16 */
	w16(c + OFF_EXP + PCI_EXP_LNKSTA, 4 | 16 << 4);
	w32(c + OFF_EXP + PCI_EXP_LNKCAP2, 0x1e);
}

static void fill(struct lab_dev *l, u16 ven, u16 dev, u32 cls, u16 subsys, u16 vfdev,
		 u64 serial)
{
	u8 *s = l->pf + OFF_SRIOV;
	u32 next = serial ? OFF_DSN : 0;

	fill_common(l->pf, ven, dev, cls);
	w16(l->pf + PCI_SUBSYSTEM_VENDOR_ID, ven);
	w16(l->pf + PCI_SUBSYSTEM_ID, subsys);
	if (serial) {
		w32(l->pf + OFF_DSN, PCI_EXT_CAP_ID_DSN | 1 << 16);
		w32(l->pf + OFF_DSN + 4, serial);
		w32(l->pf + OFF_DSN + 8, serial >> 32);
	}
	if (!l->totalvfs) {
		/* the first ext. capability has to be at 0x100 */
		w32(s, PCI_EXT_CAP_ID_VNDR | 1 << 16 | next << 20);
		w32(s + 4, 0x00c00000);
		return;
	}
	w32(s, PCI_EXT_CAP_ID_SRIOV | 1 << 16 | next << 20);
	w16(s + PCI_SRIOV_INITIAL_VF, l->totalvfs);
	w16(s + PCI_SRIOV_TOTAL_VF, l->totalvfs);
	w16(s + PCI_SRIOV_VF_OFFSET, VF_OFFSET);
	w16(s + PCI_SRIOV_VF_STRIDE, 1);
	w16(s + PCI_SRIOV_VF_DID, vfdev);
	w32(s + PCI_SRIOV_SUP_PGSIZE, 0x553);
	w32(s + PCI_SRIOV_SYS_PGSIZE, 1);
	fill_common(l->vf, 0xffff, 0xffff, cls);
	w16(l->vf + PCI_SUBSYSTEM_VENDOR_ID, ven);
	w16(l->vf + PCI_SUBSYSTEM_ID, subsys);
}

/* --------------------------------------------------------------------- DFL */
#define BAR_SIZE	0x100000
#define MAX_BARS	16
#define FME		0x00000
#define PR		0x01000
#define PORT		0x40000
#define AFU		0x80000
#define Q(l, off)	(*(volatile u64 __force *)((l)->mem + (off)))	/* x86: fine */

static void dfl_fill(struct lab_dev *l, int bus)
{
	memset_io(l->mem, 0, BAR_SIZE);
	/* DFH: type[63:60], end of list[40], offset of the next[39:16], id[11:0] */
	Q(l, FME) = 4ULL << 60 | (u64)PR << 16;
	Q(l, FME + 0x08) = 0x82fe38f0f9e17764ULL;	/* GUID of an FME */
	Q(l, FME + 0x10) = 0xbfaf2ae94a5246e3ULL;
	Q(l, FME + 0x30) = 1 << 17;			/* CAP: 1 port */
	Q(l, FME + 0x38) = 1ULL << 60 | PORT;		/* port 0: BAR 0, offset */
	Q(l, FME + 0x60) = 0x23000410010309ULL + ((u64)bus << 56); /* BITSTREAM_ID */
	Q(l, FME + 0x68) = 0x2111ULL;
	Q(l, PR) = 3ULL << 60 | 1ULL << 40 | 0x1000 << 16 | 5;
	Q(l, PR + 0x10) = 0x1ff;			/* STS: plenty of credits */
	Q(l, PR + 0xa8) = 0x9a3b8d6e7a1c0d11ULL;	/* interface id (compat_id) */
	Q(l, PR + 0xb0) = 0xf3c994130e6b4f2cULL;
	Q(l, PORT) = 4ULL << 60 | 1ULL << 40 | 0x1000 << 16 | 1;
	Q(l, PORT + 0x18) = AFU - PORT;			/* NEXT_AFU */
	Q(l, PORT + 0x30) = 256 << 8;			/* CAP: 256 KiB of AFU MMIO */
	Q(l, PORT + 0x38) = 1 | 1 << 4;			/* CTRL: in reset, acked */
	Q(l, AFU) = 1ULL << 60 | 1ULL << 40;
	Q(l, AFU + 0x08) = 0;
	Q(l, AFU + 0x10) = 0x1ab0af0000000000ULL;
}

static int dfl_hw(void *arg)
{
	struct lab_dev *l = arg;
	u64 v, data;

	while (!kthread_should_stop()) {
		/* port soft reset -> ack */
		v = Q(l, PORT + 0x38);
		if (!!(v & 1) != !!(v & 1 << 4))
			Q(l, PORT + 0x38) = v ^ 1 << 4;
		/* PR engine: reset -> ack; complete -> done or failed */
		v = Q(l, PR + 0x08);
		if (!!(v & 1) != !!(v & 1 << 4)) {
			Q(l, PR + 0x08) = v ^ 1 << 4;
			if (v & 1) {
				Q(l, PR + 0x10) = 0x1ff;	/* idle, no error */
				Q(l, PR + 0x20) = 0;
			}
		} else if ((v & 1 << 13) && (v & 1 << 12)) {
			data = (u32)Q(l, PR + 0x18);
			if (data >> 16 == 0xdead) {
				;				/* hangs */
			} else {
				if (data >> 16 == 0xbad0) {
					Q(l, PR + 0x20) = data & 0xff;
					Q(l, PR + 0x10) = 0x1ff | 1 << 16;
				} else {
					Q(l, AFU + 0x08) = data;
				}
				wmb();
				Q(l, PR + 0x08) = v & ~(1ULL << 12 | 1ULL << 13);
			}
		}
		usleep_range(60, 120);
	}
	return 0;
}

static int dfl_start(struct lab_dev *l, int bus)
{
	if (!bar_base)
		return -EINVAL;
	l->bar_nr = find_first_zero_bit(&bars_used, MAX_BARS);
	if (l->bar_nr == MAX_BARS)
		return -ENOSPC;
	l->bar = bar_base + l->bar_nr * BAR_SIZE;
	/* not memremap(): x86 wants one cache type for all mappings */
	l->mem = ioremap(l->bar, BAR_SIZE);
	if (!l->mem)
		return -ENOMEM;
	dfl_fill(l, bus);
	w32(l->pf + PCI_BASE_ADDRESS_0, l->bar);
	l->hw = kthread_run(dfl_hw, l, "lab_dfl/%02x", bus);
	if (IS_ERR(l->hw)) {
		int ret = PTR_ERR(l->hw);

		l->hw = NULL;
		iounmap(l->mem);
		return ret;
	}
	__set_bit(l->bar_nr, &bars_used);
	return 0;
}

static void dfl_stop(struct lab_dev *l)
{
	if (!l->hw)
		return;
	kthread_stop(l->hw);
	iounmap(l->mem);
	__clear_bit(l->bar_nr, &bars_used);
}

/* -------------------------------------------------------------------- mdev */
struct lab_mdev { struct vfio_device vdev; };

static int type_units(struct mdev_type *t)
{
	return strcmp(t->sysfs_name, "223") ? 1 : 2;
}

static struct lab_dev *type_lab(struct mdev_type *t)
{
	return container_of(t->parent, struct lab_dev, parent);
}

static int mdev_init_dev(struct vfio_device *v)
{
	return 0;
}

static void mdev_release_dev(struct vfio_device *v)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	vfio_free_device(v);		/* later kernels do it themselves */
#endif
}

static const struct vfio_device_ops lab_mdev_ops = {
	.init = mdev_init_dev, .release = mdev_release_dev,
};

static int mdev_probe(struct mdev_device *mdev)
{
	struct lab_dev *l = type_lab(mdev->type);
	int n = type_units(mdev->type), ret = -ENOSPC;
	struct lab_mdev *m;

	msleep(delay_ms);
	if (atomic_sub_return(n, &l->units) < 0)
		goto err;
	m = vfio_alloc_device(lab_mdev, vdev, &mdev->dev, &lab_mdev_ops);
	if (IS_ERR(m)) {
		ret = PTR_ERR(m);
		goto err;
	}
	ret = vfio_register_emulated_iommu_dev(&m->vdev);
	if (ret) {
		vfio_put_device(&m->vdev);
		goto err;
	}
	dev_set_drvdata(&mdev->dev, m);
	return 0;
err:
	atomic_add(n, &l->units);
	return ret;
}

static void mdev_gone(struct mdev_device *mdev)
{
	struct lab_mdev *m = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&m->vdev);
	vfio_put_device(&m->vdev);
	atomic_add(type_units(mdev->type), &type_lab(mdev->type)->units);
}

static unsigned int mdev_avail(struct mdev_type *t)
{
	return atomic_read(&type_lab(t)->units) / type_units(t);
}

static ssize_t mdev_desc(struct mdev_type *t, char *buf)
{
	return sysfs_emit(buf, "num_heads=4, frl_config=45, framebuffer=%dM, max_instance=%d\n",
			  1024 * type_units(t), MDEV_UNITS / type_units(t));
}

static struct mdev_driver lab_mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.driver = { .name = "lab_vgpu", .owner = THIS_MODULE,
		    .mod_name = KBUILD_MODNAME },
	.probe = mdev_probe,
	.remove = mdev_gone,
	.get_available = mdev_avail,
	.show_description = mdev_desc,
};

/* --------------------------------------------------------------- PF driver */
static int pf_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct lab_dev *l;
	int ret;

	if (pdev->bus->ops != &lab_ops || pdev->is_virtfn)
		return -ENODEV;
	l = *lab_of(pdev->bus);
	if (strcmp(pdev->dev.driver->name, l->driver))
		return -ENODEV;
	if (fail_probe)
		return -fail_probe;
	pci_set_drvdata(pdev, l);
	if (l->is_mdev) {
		l->types[0].sysfs_name = "222";
		l->types[0].pretty_name = "GRID T4-1B";
		l->types[1].sysfs_name = "223";
		l->types[1].pretty_name = "GRID T4-2B";
		l->ptypes[0] = &l->types[0];
		l->ptypes[1] = &l->types[1];
		atomic_set(&l->units, MDEV_UNITS);
		ret = mdev_register_parent(&l->parent, &pdev->dev, &lab_mdev_driver,
					   l->ptypes, 2);
		if (ret)
			return ret;
		l->parent_ok = true;
	}
	return 0;
}

static void pf_remove(struct pci_dev *pdev)
{
	struct lab_dev *l = pci_get_drvdata(pdev);

	if (l->parent_ok)
		mdev_unregister_parent(&l->parent);
	l->parent_ok = false;
	pci_disable_sriov(pdev);
}

static int pf_sriov(struct pci_dev *pdev, int n)
{
	int ret;

	msleep(delay_ms);
	if (fail_sriov)
		return -fail_sriov;
	if (!n) {
		pci_disable_sriov(pdev);
		return 0;
	}
	ret = pci_enable_sriov(pdev, n);
	return ret ? ret : n;
}

static const struct pci_device_id pf_ids[] = {
	{ PCI_DEVICE(PCI_ANY_ID, PCI_ANY_ID) }, { }
};

static struct pci_driver pf_drivers[MAX_DRIVERS] = {
	[0 ... MAX_DRIVERS - 1] = {
		.id_table = pf_ids, .probe = pf_probe, .remove = pf_remove,
		.sriov_configure = pf_sriov,
	},
};

/* ----------------------------------------------------------------- control */
struct lab_wish {
	unsigned int domain, bus, ven, dev, cls, subsys, vfdev;
	int node, vfs;
	u64 serial;
	char driver[32], kind[8];
};

static int lab_scan(struct lab_dev *l, struct pci_bus *old, const struct lab_wish *w)
{
	LIST_HEAD(res);

	if (old) {
		l->bus = old;
		l->old_ops = pci_bus_set_ops(old, &lab_ops);
		pci_scan_slot(old, 0);
		return 0;
	}
	l->busn = (struct resource){ .name = "lab", .start = w->bus,
				     .end = w->bus, .flags = IORESOURCE_BUS };
	pci_add_resource(&res, &l->busn);
	l->bus = pci_create_root_bus(NULL, w->bus, &lab_ops, &l->sd, &res);
	if (!l->bus) {
		pci_free_resource_list(&res);
		return -EIO;
	}
	pci_scan_child_bus(l->bus);
	return 0;
}

static int lab_add(const struct lab_wish *w)
{
	struct lab_dev *l, **place = &labs[w->domain != 0][w->bus & 0xff];
	struct pci_bus *old;
	struct pci_dev *pdev;
	int ret = 0;

	if (w->bus < 1 || w->bus > 255 || w->vfs < 0 || w->vfs > 200)
		return -EINVAL;
	if (w->domain && long_domain && w->domain != long_domain)
		return -EINVAL;
	old = pci_find_bus(w->domain, w->bus);
	if (*place || (old && (!old->self || !list_empty(&old->devices))))
		return -EEXIST;
	l = kzalloc(sizeof(*l), GFP_KERNEL);
	if (!l)
		return -ENOMEM;
	l->sd.domain = w->domain;
	l->sd.node = (w->node >= 0 && w->node < nr_node_ids && node_online(w->node)) ?
		     w->node : NUMA_NO_NODE;
	l->totalvfs = w->vfs;
	l->is_mdev = !strcmp(w->kind, "mdev");
	strscpy(l->driver, w->driver, sizeof(l->driver));
	fill(l, w->ven, w->dev, w->cls, w->subsys, w->vfdev, w->serial);
	if (!strcmp(w->kind, "dfl")) {
		ret = dfl_start(l, w->bus);
		if (ret)
			goto err;
	}
	*place = l;
	if (w->domain)
		long_domain = w->domain;
	pci_lock_rescan_remove();
	ret = lab_scan(l, old, w);
	if (!ret) {
		pdev = pci_get_slot(l->bus, 0);
		/* the BAR is outside of every bridge window */
		if (pdev && l->bar && insert_resource(&iomem_resource, &pdev->resource[0]))
			pci_warn(pdev, "no resource for BAR 0\n");
		pci_dev_put(pdev);
		pci_bus_add_devices(l->bus);
	}
	pci_unlock_rescan_remove();
	if (!ret)
		return 0;
	*place = NULL;
	dfl_stop(l);
err:
	kfree(l);
	return ret;
}

static int lab_del(unsigned int domain, unsigned int bus)
{
	struct lab_dev **place = &labs[domain != 0][bus & 0xff], *l = *place;
	struct pci_dev *pdev;

	if (!l || bus > 255 || l->sd.domain != domain)
		return -ENODEV;
	pci_lock_rescan_remove();
	if (l->old_ops) {
		pdev = pci_get_slot(l->bus, 0);
		if (pdev)
			pci_stop_and_remove_bus_device(pdev);	/* VFs too */
		pci_dev_put(pdev);
		pci_bus_set_ops(l->bus, l->old_ops);
	} else {
		pci_stop_root_bus(l->bus);
		pci_remove_root_bus(l->bus);
	}
	pci_unlock_rescan_remove();
	*place = NULL;
	dfl_stop(l);
	kfree(l);
	return 0;
}

static ssize_t add_store(struct device *d, struct device_attribute *a,
			 const char *buf, size_t n)
{
	struct lab_wish w = { };
	int ret;

	if (sscanf(buf, "%x:%x %x %x %x %x %31s %d %d %x %7s %llx", &w.domain, &w.bus,
		   &w.ven, &w.dev, &w.cls, &w.subsys, w.driver, &w.node, &w.vfs,
		   &w.vfdev, w.kind, &w.serial) != 12)
		return -EINVAL;
	mutex_lock(&lab_lock);
	ret = lab_add(&w);
	mutex_unlock(&lab_lock);
	return ret ? ret : n;
}
static DEVICE_ATTR_WO(add);

static ssize_t remove_store(struct device *d, struct device_attribute *a,
			    const char *buf, size_t n)
{
	unsigned int domain, bus;
	int ret;

	if (sscanf(buf, "%x:%x", &domain, &bus) != 2)
		return -EINVAL;
	mutex_lock(&lab_lock);
	ret = lab_del(domain, bus);
	mutex_unlock(&lab_lock);
	return ret ? ret : n;
}
static DEVICE_ATTR_WO(remove);

static DEVICE_INT_ATTR(fail_sriov, 0644, fail_sriov);
static DEVICE_INT_ATTR(fail_probe, 0644, fail_probe);
static DEVICE_INT_ATTR(delay_ms, 0644, delay_ms);

static struct attribute *ctl_attrs[] = {
	&dev_attr_add.attr, &dev_attr_remove.attr,
	&dev_attr_fail_sriov.attr.attr, &dev_attr_fail_probe.attr.attr,
	&dev_attr_delay_ms.attr.attr, NULL
};
ATTRIBUTE_GROUPS(ctl);

static void unregister_drivers(int n)
{
	while (n--)
		pci_unregister_driver(&pf_drivers[n]);
}

static int __init lab_init(void)
{
	struct platform_device_info pi = { .name = "lab_pci", .id = PLATFORM_DEVID_NONE };
	int ret, i;

	ret = mdev_register_driver(&lab_mdev_driver);
	if (ret)
		return ret;
	for (i = 0; i < ndrivers; i++) {
		pf_drivers[i].name = drivers[i];
		ret = pci_register_driver(&pf_drivers[i]);
		if (ret)
			goto err_pci;
	}
	ctl = platform_device_register_full(&pi);
	if (IS_ERR(ctl)) {
		ret = PTR_ERR(ctl);
		goto err_pci;
	}
	ret = device_add_groups(&ctl->dev, ctl_groups);
	if (!ret)
		return 0;
	platform_device_unregister(ctl);
err_pci:
	unregister_drivers(i);
	mdev_unregister_driver(&lab_mdev_driver);
	return ret;
}

static void __exit lab_exit(void)
{
	int i;

	platform_device_unregister(ctl);
	mutex_lock(&lab_lock);
	for (i = 0; i < 512; i++)
		if (labs[i / 256][i % 256])
			lab_del(i < 256 ? 0 : long_domain, i % 256);
	mutex_unlock(&lab_lock);
	unregister_drivers(ndrivers);
	mdev_unregister_driver(&lab_mdev_driver);
}
module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("software PCIe accelerators with SR-IOV and mdev for tests");
