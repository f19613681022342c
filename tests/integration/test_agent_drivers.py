# SPDX-License-Identifier: Apache-2.0
"""What the agent's own drivers find and measure on simulated hosts, and how it gets on with drivers outside of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event
from uuid import UUID, uuid5

import pytest

from cyborg_reconciler.agent.drivers.pci import PciDriver, needs_reboot
from cyborg_reconciler.agent.drivers.registry import REMOTE_LIMIT, Registry, TooManyDriversError
from cyborg_reconciler.agent.drivers.remote import DriverSilentError, Registration, RemoteDriver, parse_endpoint, told
from cyborg_reconciler.agent.http import encode
from cyborg_reconciler.agent.observer import LOOK, SILENT_REST_S, Observer
from cyborg_reconciler.agent.readers import Host
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.agent.wanted import DesiredDevice
from cyborg_reconciler.conductor.check_ins import parse_check_in
from cyborg_reconciler.documents.rest.agent import CheckInBody
from cyborg_reconciler.simulation import demo_machines, write_tree
from tests.integration.agent_support import ITEM, OBEDIENT, FakeDriver
from tests.integration.fake_conductor import PATIENCE_S
from tests.unit.test_agent_observer import Host as StillHost

HOST = UUID("6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11")
BASE = "sys/bus/pci/devices"
GPU, NVME, PORT = "0000:3b:00.0", "0000:02:00.0", "0000:ca:00.1"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    for machine in demo_machines():
        write_tree(machine, folder / machine.name)
    return folder


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read_facts(root):
    """The functions in the facts, by address."""
    return {function["address"]: function for function in Host(root).read_facts()["devices"]}


def found(root):
    """The driver, and its devices by address."""
    host = Host(root)
    driver = PciDriver(host)
    return driver, {device.address: device for device in driver.discover(host.read_facts())}


# -------------------------------------------------------------------------------- drivers outside, as the observer asks
def test_a_silent_driver_is_left_alone_for_a_while_and_hides_no_other(tmp_path):
    answers = {("POST", "/discovery"): OBEDIENT["POST", "/discovery"], ("GET", "/hardware"): (500, {}, b"")}
    with FakeDriver() as well, FakeDriver(answers) as broken:
        registry = Registry([], StateFolder(tmp_path / "state"))
        for name, driver in (("broken", broken), ("well", well)):
            registry.register(Registration(name, "CRYPTO", driver.endpoint))
        settings = AgentSettings(conductor="https://cloud.example", poll_interval_s=5)
        observer = Observer(StillHost(), registry, settings, lambda: None)
        for now in (1000.0, 1005.0, 1010.0):
            observer.step(now)
            assert observer.latest.remote.keys() == {"well"}
        assert [path for _, path, _ in broken.asked] == ["/discovery", "/hardware"]
        assert [path for _, path, _ in well.asked].count("/hardware") == 3
        observer.step(1000.0 + SILENT_REST_S)
        assert [path for _, path, _ in broken.asked] == ["/discovery", "/hardware", "/hardware"]


class HeldAnswers(dict):
    """The first answer to a request to discover waits until it is let go."""

    def __init__(self):
        super().__init__(OBEDIENT)
        self.begun, self.let_go = Event(), Event()

    def __getitem__(self, key):
        if key == ("POST", "/discovery"):
            self.begun.set()
            assert self.let_go.wait(PATIENCE_S)
        return super().__getitem__(key)


def test_what_is_wanted_anew_while_a_driver_is_told_what_was_wanted_is_told_next(tmp_path):
    answers, uuids = HeldAnswers(), [str(uuid5(HOST, name)) for name in "ab"]
    first, second = (DesiredDevice("crypto", f"crypto:{number}", uuid) for number, uuid in enumerate(uuids))
    with FakeDriver(answers) as fake, ThreadPoolExecutor(1) as pool:
        registry = Registry([], StateFolder(tmp_path / "state"))
        registry.register(Registration("crypto", "CRYPTO", fake.endpoint))
        observer = Observer(StillHost(), registry, AgentSettings(conductor="https://cloud.example"), lambda: None)
        observer.want((first,))
        turn = pool.submit(observer.step, 1000.0)
        assert answers.begun.wait(PATIENCE_S)
        observer.want((first, second))
        answers.let_go.set()
        turn.result(PATIENCE_S)
        for now in (1005.0, 1010.0):
            observer.take(LOOK, now)
            observer.step(now)
        assert fake.told == [{"ready": uuids[:1]}, {"ready": uuids}]
        observer.want(modules=("vfio_pci",))
        observer.want((DesiredDevice("other", "other:0", uuids[0]), first, second))
        observer.step(1015.0)
        assert len(fake.told) == 2  # nothing of this is news to it


# ------------------------------------------------------------------------------------------------------ the PCI driver
def test_every_function_is_hardware(roots):
    driver, devices = found(roots / "gpu-1")
    kinds = {address: device.device_type for address, device in devices.items()}
    assert set(kinds) == set(read_facts(roots / "gpu-1"))
    assert {address: kind for address, kind in kinds.items() if kind != "GENERIC"} == {
        "0000:01:00.0": "NIC",
        NVME: "NVME",
        GPU: "GPU",
    }
    assert driver.usage(devices["0000:3b:00.1"]) == {}


def test_a_function_with_a_serial_keeps_its_uuid_in_another_slot(roots):
    _, devices = found(roots / "gpu-1")
    document = devices[GPU].document(HOST)
    assert document == {
        "uuid": str(uuid5(HOST, "10de:20b0 1320SIM00042 .0")),
        "acc_specs": {
            "remote": 0,
            "num": 1,
            "device_type": "GPU",
            "acc_type": "PF",
            "vendor_id": "10de",
            "product_id": "20b0",
            "acc_capability": {"num": 16},
        },
        "acc_status": {"setup_required": False, "reboot_required": False},
    }
    _, devices = found(roots / "qat-1")
    assert devices["0000:6b:00.0"].document(HOST)["uuid"] == str(uuid5(HOST, "8086:4940 0000:6b:00.0"))


def test_a_vf_has_its_uuid_from_its_pf():
    facts = {
        "kernel": {},
        "drivers": {},
        "devices": [
            {
                "address": "0000:3b:00.0",
                "vendor_id": "8086",
                "product_id": "4940",
                "class_id": "0b4000",
                "total_vfs": 2,
            },
            {
                "address": "0000:3b:00.1",
                "vendor_id": {"unknown": "gone"},
                "product_id": "4941",
                "class_id": "0b4000",
                "physfn": "0000:3b:00.0",
                "vf_index": 0,
                "driver": {"unknown": "gone"},
            },
        ],
    }
    pf, vf = PciDriver(Host("/")).discover(facts)
    pf_uuid = UUID(pf.document(HOST)["uuid"])
    assert vf.document(HOST)["uuid"] == str(uuid5(pf_uuid, "vf 0"))
    assert (pf.num, pf.acc_type, vf.num, vf.acc_type) == (2, "PF", 1, "VF")
    assert vf.vendor_id is None
    assert (pf.setup_required, vf.setup_required) == (True, False)  # of what cannot be told what it is, nothing is


def test_what_the_kernel_measures_is_told(roots):
    root = roots / "gpu-1"
    put(root, f"{BASE}/{GPU}/aer_dev_correctable", "RxErr 3\nTOTAL_ERR_COR 3\n")
    put(root, f"{BASE}/{GPU}/aer_dev_fatal", "Undefined 0\nTOTAL_ERR_FATAL 0\n")
    put(root, f"{BASE}/{GPU}/aer_dev_nonfatal", "what is this\n")
    put(root, f"{BASE}/{GPU}/hwmon/hwmon3/temp1_input", "41500\n")
    put(root, f"{BASE}/{GPU}/gpu_busy_percent", "25\n")
    put(root, f"{BASE}/{GPU}/mem_info_vram_total", "8589934592\n")
    put(root, f"{BASE}/{GPU}/mem_info_vram_used", "12e99\n")
    put(root, f"{BASE}/{NVME}/nvme/nvme0/hwmon1/temp1_input", "-2000\n")
    driver, devices = found(root)
    assert driver.usage(devices[GPU]) == {
        "errors_correctable": 3,
        "errors_fatal": 0,
        "link_speed_gts": 16.0,
        "link_width": 16,
        "utilisation_ratio": 0.25,
        "memory_total_bytes": 8589934592,
        "temperature_celsius": 41.5,
    }
    assert driver.usage(devices[NVME])["temperature_celsius"] == -2
    put(root, "sys/class/net/eno1/carrier", "1\n")
    put(root, "sys/class/net/eno1/statistics/rx_bytes", "12\n")
    usage = driver.usage(devices["0000:01:00.0"])
    assert (usage["link_up"], usage["rx_bytes_total"]) == (1, 12)
    assert driver.status(devices[GPU]) == "Healthy"


def test_fatal_errors_and_controllers_that_were_given_up_degrade_a_device_and_what_is_gone_is_missing(roots):
    root = roots / "qat-1"
    driver, devices = found(root)
    qat, nvme = devices["0000:6b:00.0"], devices[NVME]
    assert (driver.status(qat), driver.status(nvme)) == ("Healthy", "Healthy")
    put(root, f"{BASE}/{qat.address}/aer_dev_fatal", "TOTAL_ERR_FATAL 1\n")
    put(root, "sys/class/nvme/nvme0/state", "dead\n")
    assert (driver.status(qat), driver.status(nvme)) == ("Degraded", "Degraded")
    (root / BASE / qat.address / "aer_dev_fatal").unlink()
    (root / BASE / qat.address / "aer_dev_fatal").mkdir()  # cannot be read
    assert driver.status(qat) == "Unknown"
    (root / BASE / qat.address).unlink()
    assert driver.status(qat) == "Missing"


@pytest.mark.parametrize(
    ("next_boot", "running", "due", "needed"),
    [
        (["intel_iommu=on"], ["BOOT_IMAGE=/vmlinuz", "intel_iommu=on"], [], False),
        (["intel_iommu=on", "iommu=pt"], ["intel_iommu=on"], [], True),
        ({"unknown": "no GRUB"}, ["quiet"], [], False),
        (["quiet"], {"unknown": "no /proc"}, [], False),
        ([], [], ["nouveau"], True),
        ([], [], {"unknown": "I/O error"}, False),
    ],
)
def test_what_is_configured_and_does_not_run_needs_a_reboot(next_boot, running, due, needed):
    kernel = {"args_next_boot": next_boot, "args_running": running}
    assert needs_reboot({"kernel": kernel, "drivers": {"initramfs_due": due}}) is needed


# ------------------------------------------------------------------------------------------------------ remote drivers
def driver_at(endpoint, credential=None):
    return RemoteDriver(Registration("crypto", "CRYPTO", endpoint), credential)


def test_a_driver_is_asked_where_it_registered_with_the_credential_of_both():
    with FakeDriver(OBEDIENT) as fake:
        driver = driver_at(fake.endpoint, "shared")
        driver.discover()
        assert driver.hardware() == [ITEM]
        assert fake.asked == [("POST", "/discovery", "Bearer shared"), ("GET", "/hardware", "Bearer shared")]
        assert driver.status == "READY"
        driver_at(fake.endpoint).discover()
        assert fake.asked[-1] == ("POST", "/discovery", None)


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}, b"{}"),
        (302, {"Location": "http://192.0.2.1/hardware"}, b""),
        (200, {}, b"no JSON"),
        (200, {}, b"[]"),
        (200, {}, b"{}"),
        (200, {}, b'{"hardware": [{"uuid": "x"}]}'),
        (200, {}, json.dumps({"hardware": [ITEM] * 1025}).encode()),
        (200, {}, json.dumps({"hardware": [{**ITEM, "uuid": ITEM["uuid"].upper()}]}).encode()),
        (200, {}, json.dumps({"hardware": [{**ITEM, "acc_status": {"setup_required": "yes"}}]}).encode()),
        (200, {}, b"[" * 200_000),
        (200, {}, b" " * (1024 * 1024 + 2)),
    ],
)
def test_an_answer_that_is_not_as_it_should_be_is_none(answer):
    with FakeDriver(OBEDIENT | {("GET", "/hardware"): answer}) as fake:
        driver = driver_at(fake.endpoint)
        with pytest.raises(DriverSilentError, match="driver crypto"):
            driver.hardware()
        assert driver.status == "UNREACHABLE"
        assert [path for _, path, _ in fake.asked] == ["/hardware"]


def nested(levels):
    tree = {}
    for _ in range(levels - 1):
        tree = {"deeper": tree}
    return tree


def item(number=0, capability=None, **more):
    specs = {**ITEM["acc_specs"], "acc_capability": {} if capability is None else capability}
    return {**ITEM, "uuid": str(uuid5(HOST, str(number))), "acc_specs": specs, **more}


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([item(), item(1, nested(17))], "nested deeper than 16 levels"),
        ([item(capability={"firmware": "\ud800"})], "no JSON in UTF-8"),
        ([item(capability={"\udfff": 1})], "no JSON in UTF-8"),
        ([item(capability={"load": float("nan")})], "no JSON in UTF-8"),
        ([item(number, {"text": "é" * 8200}) for number in range(2)], "longer than 32768 bytes"),
    ],
)
def test_what_no_conductor_would_take_is_not_passed_on(items, why):
    answer = (200, {}, json.dumps({"hardware": items}).encode())
    with FakeDriver(OBEDIENT | {("GET", "/hardware"): answer}) as fake:
        driver = driver_at(fake.endpoint)
        with pytest.raises(DriverSilentError, match=why):
            driver.hardware()
        assert driver.status == "UNREACHABLE"


def test_whatever_is_passed_on_the_conductor_takes():
    many = [item(number, {"num": 1, "text": "é"}, address=f"crypto:{number}") for number in range(1024)]
    many[0] = item(0, nested(16), address="\ud800")
    answer = (200, {}, json.dumps({"hardware": many}).encode())
    with FakeDriver(OBEDIENT | {("GET", "/hardware"): answer}) as fake:
        devices = [told(one) for one in driver_at(fake.endpoint).hardware()]
    words = {"agent_version": "0.1.0", "boot_id": "b", "epoch": 1, "sequence": 1, "fingerprint": "f"}
    body = encode({**words, "hardware": [{"driver": "crypto", "devices": devices}]})
    kept = parse_check_in("compute-7", CheckInBody().validate_json(body), datetime.now(UTC)).hardware.devices["crypto"]
    assert len(kept) == 1024
    assert kept[many[0]["uuid"]].address == many[0]["uuid"]


def test_a_driver_that_is_gone_is_unreachable():
    with FakeDriver(OBEDIENT) as fake:
        endpoint = fake.endpoint
    driver = driver_at(endpoint)
    with pytest.raises(DriverSilentError):
        driver.discover()
    assert driver.status == "UNREACHABLE"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("localhost:4711", "127.0.0.1:4711"), ("127.1.2.3:1", "127.1.2.3:1"), ("[::1]:4711", "[::1]:4711")],
)
def test_an_endpoint_is_loopback_without_asking_a_resolver(text, endpoint):
    assert parse_endpoint(text, 1337) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("192.0.2.1:80", "0.0.0.0:80", "localhost", "localhost:1337", "localhost:0", "localhost:99999", ""),
        *("example.org:80", "localhost.example:80", "127.0.0.1:80/x", "user@127.0.0.1:80", "127.0.0.1:80\r\nX: y"),
        *("http://127.0.0.1:80", "[::1%25lo]:80", "127.1:80", "[::ffff:192.0.2.1]:80"),
    ],
)
def test_any_other_endpoint_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_endpoint(text, 1337)


def test_drivers_are_remembered_over_a_restart_and_are_few(tmp_path):
    folder = StateFolder(tmp_path / "state")
    registry = Registry([], folder)
    for number in range(REMOTE_LIMIT):
        registry.register(Registration(f"d{number}", "CRYPTO", f"127.0.0.1:{5000 + number}"))
    with pytest.raises(TooManyDriversError):
        registry.register(Registration("more", "CRYPTO", "127.0.0.1:6000"))
    registry.register(Registration("d0", "CRYPTO", "127.0.0.1:6001"))
    again = Registry([], folder)
    assert again.names() == registry.names()
    assert again.remote("d0")[0].registration.endpoint == "127.0.0.1:6001"
    assert again.documents("compute-7:1337", ["d1"])[:2] == [
        {"name": "d0", "type": "CRYPTO", "status": "READY", "endpoint": "127.0.0.1:6001"},
        {"name": "d1", "type": "CRYPTO", "status": "IN-PROGRESS", "endpoint": "127.0.0.1:5001"},
    ]


@pytest.mark.parametrize(
    "text",
    ['{"drivers": [{"name": "x", "type": "CRYPTO", "endpoint": "192.0.2.1:80"}, 5, {}]}', '{"drivers": 5}', "[]"],
)
def test_what_makes_no_sense_of_former_drivers_is_forgotten(tmp_path, text):
    folder = StateFolder(tmp_path / "state")
    (folder.path / "drivers.json").write_text(text)
    assert Registry([], folder).names() == ()
