// SPDX-License-Identifier: GPL-2.0
/*
 * lab_fpga: a fake FPGA for tests.  Drives, under the name of Altera's CvP driver,
 * the Altera functions that lab_pci makes, and registers for each, through the
 * real kernel framework, one fpga_manager + fpga_bridge + fpga_region:
 *
 *   /sys/class/fpga_manager/fpgaN/{name,state,status}      framework
 *   /sys/class/fpga_manager/fpgaN/firmware   (WO) file name below /lib/firmware:
 *          programs it (same attribute as the Xilinx vendor kernels; mainline
 *          has NO sysfs way to program, only device tree overlays and the DFL
 *          ioctl FME_PORT_PR)
 *   /sys/class/fpga_manager/fpgaN/flags      (RW) hex FPGA_MGR_* flags (vendor)
 *   /sys/class/fpga_manager/fpgaN/lab_*      test knobs, see below
 *   /sys/class/fpga_bridge/brN, /sys/class/fpga_region/regionN   framework
 *
 * knobs: lab_fail = none|init|write|complete, lab_delay_ms = time per write op,
 *        lab_loaded (RO) = "<bytes> <crc32> <programmings>"
 */
#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/firmware.h>
#include <linux/fpga/fpga-bridge.h>
#include <linux/fpga/fpga-mgr.h>
#include <linux/fpga/fpga-region.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

static const char * const stages[] = { "none", "init", "write", "complete" };

struct lab {
	struct pci_dev *pdev;
	struct fpga_compat_id compat_id;
	char name[48];
	struct fpga_manager *mgr;
	struct fpga_bridge *br;
	struct fpga_region *region;
	enum fpga_mgr_states state;
	u64 status;
	unsigned long flags;
	int fail, delay_ms, times, enabled;
	size_t bytes;
	u32 crc;
	struct mutex lock;
};

static enum fpga_mgr_states op_state(struct fpga_manager *mgr)
{
	return ((struct lab *)mgr->priv)->state;
}

static u64 op_status(struct fpga_manager *mgr)
{
	return ((struct lab *)mgr->priv)->status;
}

static int op_write_init(struct fpga_manager *mgr, struct fpga_image_info *info,
			 const char *buf, size_t n)
{
	struct lab *l = mgr->priv;

	l->bytes = 0;
	l->crc = ~0;
	l->status = 0;
	if (l->fail == 1 || (n >= 3 && !memcmp(buf, "BAD", 3))) {
		l->status = FPGA_MGR_STATUS_INCOMPATIBLE_IMAGE_ERR;
		return -EINVAL;
	}
	return 0;
}

static int op_write(struct fpga_manager *mgr, const char *buf, size_t n)
{
	struct lab *l = mgr->priv;

	msleep(l->delay_ms);
	if (l->fail == 2) {
		l->status = FPGA_MGR_STATUS_CRC_ERR;
		return -EIO;
	}
	l->bytes += n;
	l->crc = crc32_le(l->crc, buf, n);
	return 0;
}

static int op_complete(struct fpga_manager *mgr, struct fpga_image_info *info)
{
	struct lab *l = mgr->priv;

	if (l->fail == 3) {
		l->status = FPGA_MGR_STATUS_OPERATION_ERR;
		return -ETIMEDOUT;
	}
	l->state = FPGA_MGR_STATE_OPERATING;
	l->times++;
	return 0;
}

static struct lab *d2l(struct device *dev)
{
	return to_fpga_manager(dev)->priv;
}

static ssize_t firmware_store(struct device *dev, struct device_attribute *a,
			      const char *buf, size_t n)
{
	struct lab *l = d2l(dev);
	struct fpga_image_info *info;
	int ret;

	info = fpga_image_info_alloc(&l->pdev->dev);
	if (!info)
		return -ENOMEM;
	info->flags = l->flags;
	info->firmware_name = devm_kstrdup(&l->pdev->dev, buf, GFP_KERNEL);
	if (!info->firmware_name) {
		fpga_image_info_free(info);
		return -ENOMEM;
	}
	info->firmware_name[strcspn(buf, "\n")] = 0;
	mutex_lock(&l->lock);
	l->region->info = info;
	ret = fpga_region_program_fpga(l->region);	/* locks mgr + bridges */
	fpga_bridges_put(&l->region->bridge_list);
	l->region->info = NULL;
	mutex_unlock(&l->lock);
	fpga_image_info_free(info);	/* frees firmware_name too */
	return ret ? ret : n;
}
static DEVICE_ATTR_WO(firmware);

static ssize_t flags_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "%lx\n", d2l(dev)->flags);
}

static ssize_t flags_store(struct device *dev, struct device_attribute *a,
			   const char *buf, size_t n)
{
	int ret = kstrtoul(buf, 16, &d2l(dev)->flags);

	return ret ? ret : n;
}
static DEVICE_ATTR_RW(flags);

static ssize_t lab_fail_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "%s\n", stages[d2l(dev)->fail]);
}

static ssize_t lab_fail_store(struct device *dev, struct device_attribute *a,
			      const char *buf, size_t n)
{
	int i = sysfs_match_string(stages, buf);

	if (i < 0)
		return i;
	d2l(dev)->fail = i;
	return n;
}
static DEVICE_ATTR_RW(lab_fail);

static ssize_t lab_delay_ms_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "%d\n", d2l(dev)->delay_ms);
}

static ssize_t lab_delay_ms_store(struct device *dev, struct device_attribute *a,
				  const char *buf, size_t n)
{
	int ret = kstrtoint(buf, 10, &d2l(dev)->delay_ms);

	return ret ? ret : n;
}
static DEVICE_ATTR_RW(lab_delay_ms);

static ssize_t lab_loaded_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct lab *l = d2l(dev);

	return sysfs_emit(buf, "%zu %08x %d\n", l->bytes, ~l->crc, l->times);
}
static DEVICE_ATTR_RO(lab_loaded);

static struct attribute *lab_attrs[] = {
	&dev_attr_firmware.attr, &dev_attr_flags.attr, &dev_attr_lab_fail.attr,
	&dev_attr_lab_delay_ms.attr, &dev_attr_lab_loaded.attr, NULL
};
ATTRIBUTE_GROUPS(lab);

static const struct fpga_manager_ops mgr_ops = {
	.initial_header_size = 16,
	.state = op_state,
	.status = op_status,
	.write_init = op_write_init,
	.write = op_write,
	.write_complete = op_complete,
	.groups = lab_groups,
};

static int br_enable(struct fpga_bridge *br, bool on)
{
	((struct lab *)br->priv)->enabled = on;
	return 0;
}

static int br_show(struct fpga_bridge *br)
{
	return ((struct lab *)br->priv)->enabled;
}

static const struct fpga_bridge_ops br_ops = {
	.enable_set = br_enable, .enable_show = br_show,
};

static int get_bridges(struct fpga_region *region)
{
	struct lab *l = region->priv;

	return fpga_bridge_get_to_list(l->br->dev.parent, region->info,
				       &region->bridge_list);
}

static void lab_free(struct lab *l)
{
	if (!IS_ERR_OR_NULL(l->region))
		fpga_region_unregister(l->region);
	if (!IS_ERR_OR_NULL(l->br))
		fpga_bridge_unregister(l->br);
	if (!IS_ERR_OR_NULL(l->mgr))
		fpga_mgr_unregister(l->mgr);
	kfree(l);
}

static int lab_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct lab *l = kzalloc(sizeof(*l), GFP_KERNEL);
	struct fpga_region_info ri = { .get_bridges = get_bridges };
	void *p;

	if (!l)
		return -ENOMEM;
	mutex_init(&l->lock);
	l->pdev = pdev;
	l->state = FPGA_MGR_STATE_UNKNOWN;
	l->crc = ~0;
	l->compat_id.id_h = 0x1ab0c0de00000000ULL;
	l->compat_id.id_l = pdev->device;
	snprintf(l->name, sizeof(l->name), "Altera CvP FPGA Manager @%s", pci_name(pdev));
	p = l->mgr = fpga_mgr_register(&pdev->dev, l->name, &mgr_ops, l);
	if (IS_ERR(p))
		goto err;
	p = l->br = fpga_bridge_register(&pdev->dev, "lab bridge", &br_ops, l);
	if (IS_ERR(p))
		goto err;
	ri.mgr = l->mgr;
	ri.priv = l;
	ri.compat_id = &l->compat_id;
	p = l->region = fpga_region_register_full(&pdev->dev, &ri);
	if (IS_ERR(p))
		goto err;
	pci_set_drvdata(pdev, l);
	return 0;
err:
	lab_free(l);
	return PTR_ERR(p);
}

static void lab_remove(struct pci_dev *pdev)
{
	lab_free(pci_get_drvdata(pdev));
}

static const struct pci_device_id lab_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_ALTERA, PCI_ANY_ID) }, { }
};

static struct pci_driver lab_driver = {
	.name = "altera-cvp", .id_table = lab_ids, .probe = lab_probe, .remove = lab_remove,
};
module_pci_driver(lab_driver);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("fake FPGA manager/bridge/region for tests");
