# SPDX-License-Identifier: Apache-2.0
"""Which kernel modules does a simulated Debian kernel come with? Read by the machines of `samples`. Pure: constants.

Names, aliases and dependencies are those of Linux 6.1; only what the simulation needs of each is here.
"""

from typing import Final

from cyborg_reconciler.simulation.machine import Module


def pci(vendor_id: str, product_id: str) -> str:
    """Return the alias of every function with these ids."""
    return f"pci:v0000{vendor_id.upper()}d0000{product_id.upper()}sv*sd*bc*sc*i*"


def pci_class(base: str, sub: str = "*", interface: str = "*") -> str:
    """Return the alias of every function of a class."""
    return f"pci:v*d*sv*sd*bc{base}sc{sub}i{interface}"


NETWORK: Final = (
    Module(
        name="ice",
        path="kernel/drivers/net/ethernet/intel/ice/ice.ko",
        aliases=(pci("8086", "1591"), pci("8086", "1592"), pci("8086", "1593"), pci("8086", "159b")),
        depends=("gnss",),
        driver="ice",
        sriov=True,
        makes=("net",),
        parameters={"debug": "-1"},
        description="Intel(R) Ethernet Connection E800 Series Linux Driver",
        licence="GPL v2",
    ),
    Module(name="gnss", path="kernel/drivers/gnss/gnss.ko", description="GNSS receiver core", licence="GPL v2"),
    Module(
        name="iavf",
        path="kernel/drivers/net/ethernet/intel/iavf/iavf.ko",
        aliases=(pci("8086", "1889"), pci("8086", "154c")),
        driver="iavf",
        makes=("net",),
        description="Intel(R) Ethernet Adaptive Virtual Function Network Driver",
        licence="GPL v2",
    ),
    Module(
        name="igb",
        path="kernel/drivers/net/ethernet/intel/igb/igb.ko",
        aliases=(pci("8086", "10c9"), pci("8086", "1521"), pci("8086", "1533")),
        depends=("i2c_algo_bit", "dca"),
        driver="igb",
        sriov=True,
        makes=("net",),
        parameters={"max_vfs": "0", "debug": "-1"},
        description="Intel(R) Gigabit Ethernet Network Driver",
        licence="GPL v2",
    ),
    Module(
        name="igbvf",
        path="kernel/drivers/net/ethernet/intel/igbvf/igbvf.ko",
        aliases=(pci("8086", "10ca"), pci("8086", "1520")),
        driver="igbvf",
        makes=("net",),
        description="Intel(R) Gigabit Virtual Function Network Driver",
        licence="GPL v2",
    ),
    Module(name="dca", path="kernel/drivers/dca/dca.ko", version="1.12.1", description="DCA"),
)

CRYPTO: Final = (
    Module(
        name="qat_4xxx",
        path="kernel/drivers/crypto/qat/qat_4xxx/qat_4xxx.ko",
        aliases=(pci("8086", "4940"), pci("8086", "4942"), pci("8086", "4944")),
        depends=("intel_qat",),
        driver="4xxx",
        sriov=True,
        makes=("qat",),
        version="0.6.0",
        description="Intel(R) QuickAssist Technology",
        licence="Dual BSD/GPL",
    ),
    Module(
        name="intel_qat",
        path="kernel/drivers/crypto/qat/qat_common/intel_qat.ko",
        depends=("crc8",),
        version="0.6.0",
        description="Intel(R) QuickAssist Technology",
        licence="Dual BSD/GPL",
    ),
    Module(name="crc8", path="kernel/lib/crc8.ko", description="CRC8 (by Williams, Ross N.) function"),
    Module(
        name="virtio_crypto",
        path="kernel/drivers/crypto/virtio/virtio_crypto.ko",
        aliases=("virtio:d00000014v*",),
        depends=("crypto_engine",),
        driver="virtio_crypto",
        bus="virtio",
        description="virtio crypto device driver",
    ),
    Module(name="crypto_engine", path="kernel/crypto/crypto_engine.ko", description="Crypto hardware engine framework"),
)

GRAPHICS: Final = (
    Module(
        name="nouveau",
        path="kernel/drivers/gpu/drm/nouveau/nouveau.ko",
        aliases=("pci:v000010DEd*sv*sd*bc03sc*i*",),
        depends=("drm", "i2c_algo_bit"),
        driver="nouveau",
        makes=("drm",),
        parameters={"modeset": "-1", "config": "(null)"},
        description="nVidia Riva/TNT/GeForce/Quadro/Tesla/Tegra K1+",
        licence="GPL and additional rights",
    ),
    Module(
        name="drm",
        path="kernel/drivers/gpu/drm/drm.ko",
        parameters={"debug": "0"},
        description="DRM shared core routines",
        licence="GPL and additional rights",
    ),
    Module(name="i2c_algo_bit", path="kernel/drivers/i2c/algos/i2c-algo-bit.ko", description="I2C-Bus bit-banging"),
    Module(
        name="snd_hda_intel",
        path="kernel/sound/pci/hda/snd-hda-intel.ko",
        aliases=("pci:v000010DEd*sv*sd*bc04sc03i00*", pci("8086", "a170")),
        depends=("snd",),
        driver="snd_hda_intel",
        parameters={"power_save": "1"},
        description="Intel HDA driver",
    ),
    Module(name="snd", path="kernel/sound/core/snd.ko", description="Advanced Linux Sound Architecture driver"),
)

#: Out of tree, as a vendor's package installs it; signed by nobody that the firmware knows.
NVIDIA: Final = Module(
    name="nvidia",
    path="updates/dkms/nvidia.ko",
    aliases=("pci:v000010DEd*sv*sd*bc03sc02i00*", "pci:v000010DEd*sv*sd*bc03sc00i00*"),
    depends=("drm",),
    driver="nvidia",
    sriov=True,
    makes=("nvidia", "mdev"),
    version="535.183.06",
    parameters={"NVreg_EnableGpuFirmware": "18"},
    description="NVIDIA driver (simulated)",
    licence="Dual MIT/GPL",
    signer=None,
)

STORAGE: Final = (
    Module(
        name="nvme",
        path="kernel/drivers/nvme/host/nvme.ko",
        aliases=(pci_class("01", "08", "02"),),
        depends=("nvme_core",),
        driver="nvme",
        sriov=True,
        makes=("nvme",),
        version="1.0",
        parameters={"poll_queues": "0", "write_queues": "0"},
        licence="GPL",
    ),
    Module(
        name="nvme_core",
        path="kernel/drivers/nvme/host/nvme-core.ko",
        version="1.0",
        parameters={"multipath": "Y", "io_timeout": "30"},
    ),
    Module(
        name="virtio_blk",
        path="kernel/drivers/block/virtio_blk.ko",
        aliases=("virtio:d00000002v*",),
        depends=("virtio",),
        driver="virtio_blk",
        bus="virtio",
        makes=("block",),
        description="Virtio block driver",
    ),
    Module(
        name="virtio_net",
        path="kernel/drivers/net/virtio_net.ko",
        aliases=("virtio:d00000001v*",),
        depends=("virtio",),
        driver="virtio_net",
        bus="virtio",
        makes=("net",),
        parameters={"napi_tx": "Y"},
        description="Virtio network driver",
    ),
    Module(
        name="virtio_pci",
        path="kernel/drivers/virtio/virtio_pci.ko",
        aliases=("pci:v00001AF4d*sv*sd*bc*sc*i*",),
        depends=("virtio",),
        driver="virtio-pci",
        makes=("virtio",),
        version="1",
        parameters={"force_legacy": "N"},
        description="virtio-pci",
    ),
    Module(name="virtio", path="kernel/drivers/virtio/virtio.ko"),
)

#: Its aliases have a prefix of their own, so that it binds nothing unless told to.
#: Source: Linux, Documentation/driver-api/vfio-pci-device-specific-driver-acceptance.rst and file2alias.c.
VFIO: Final = (
    Module(
        name="vfio_pci",
        path="kernel/drivers/vfio/pci/vfio-pci.ko",
        aliases=("vfio_pci:v*d*sv*sd*bc*sc*i*",),
        depends=("vfio_pci_core", "vfio", "irqbypass"),
        driver="vfio-pci",
        sriov=True,
        makes=("vfio",),
        parameters={"ids": "", "disable_vga": "N", "disable_idle_d3": "N", "enable_sriov": "N", "nointxmask": "N"},
        description="VFIO PCI - User Level meta-driver",
        licence="GPL v2",
    ),
    Module(name="vfio_pci_core", path="kernel/drivers/vfio/pci/vfio-pci-core.ko", depends=("vfio", "vfio_iommu_type1")),
    Module(name="vfio_iommu_type1", path="kernel/drivers/vfio/vfio_iommu_type1.ko", depends=("vfio",)),
    Module(
        name="vfio", path="kernel/drivers/vfio/vfio.ko", version="0.3", parameters={"enable_unsafe_noiommu_mode": "N"}
    ),
    Module(name="irqbypass", path="kernel/virt/lib/irqbypass.ko"),
)

MODULES: Final = (*NETWORK, *CRYPTO, *GRAPHICS, *STORAGE, *VFIO)

#: What is in the kernel's image: no file of its own, and no way to unload it.
BUILTIN: Final = (
    Module(
        name="pcieportdrv",
        path="kernel/drivers/pci/pcie/pcieportdrv.ko",
        aliases=(pci_class("06", "04", "00"),),
        driver="pcieport",
        signer=None,
    ),
    Module(name="ext4", path="kernel/fs/ext4/ext4.ko", signer=None),
)
