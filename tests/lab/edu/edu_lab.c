// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A driver for QEMU's teaching device (1234:11e8), for which Linux has none: the lab builds it out of tree with DKMS.
 *
 * /dev/edu_lab answers a read with the device's identification register, in hex. A process that holds it open holds
 * the module, as a real accelerator's user does. Unbinding is possible all the same; reads then fail with ENODEV.
 *
 * Source: QEMU, docs/specs/edu.rst.
 */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rwsem.h>

#define EDU_BAR 0
#define EDU_IDENTIFICATION 0x00

/* The registers of the one device that is served; NULL while none is bound. */
static void __iomem *edu_registers;
static DECLARE_RWSEM(edu_lock);

static ssize_t edu_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	char text[16];
	int length;

	down_read(&edu_lock);
	length = edu_registers ? scnprintf(text, sizeof(text), "%08x\n", ioread32(edu_registers + EDU_IDENTIFICATION))
			       : -ENODEV;
	up_read(&edu_lock);
	return length < 0 ? length : simple_read_from_buffer(to, count, position, text, length);
}

static const struct file_operations edu_operations = {
	.owner = THIS_MODULE,
	.read = edu_read,
	.llseek = default_llseek,
};

static struct miscdevice edu_file = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "edu_lab",
	.fops = &edu_operations,
};

static int edu_probe(struct pci_dev *device, const struct pci_device_id *id)
{
	int error;

	if (edu_registers)
		return -EBUSY;
	error = pcim_enable_device(device);
	if (!error)
		error = pcim_iomap_regions(device, BIT(EDU_BAR), KBUILD_MODNAME);
	if (error)
		return error;
	edu_registers = pcim_iomap_table(device)[EDU_BAR];
	error = misc_register(&edu_file);
	if (error)
		edu_registers = NULL;
	return error;
}

static void edu_remove(struct pci_dev *device)
{
	misc_deregister(&edu_file);
	down_write(&edu_lock);
	edu_registers = NULL;
	up_write(&edu_lock);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{}
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("QEMU's teaching device, for the lab");
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
