# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every option of devagent but keystoneauth's, in [placement] and [glance], and those of logging, which are oslo.log's.

Values are read where parts are built and handed to them; nothing below the commands sees this module. What is wrong in
a file is told with the file, the section and the option: conf_check.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from oslo_config import cfg, types

from devagent import conf_check
from devagent.places import CONFIG_DIR, CONFIG_FILE, POLICY_FILE, SOCKET, STATE_PATH

DEFAULT: Final = "DEFAULT"
_DAY: Final = 86400
_HOUR: Final = 3600


class XidStates(types.Dict):
    """What an operator makes of XIDs: `79:unhealthy,13:ignore` is {79: "unhealthy", 13: "ignore"}."""

    def __init__(self) -> None:
        super().__init__(types.String(choices=["ignore", "suspect", "unhealthy"]), type_name="NUMBER:STATE list")

    def __call__(self, value: Any) -> dict[Any, Any]:
        """Gives the states by number. Raises ValueError."""
        states = super().__call__(value)
        for number in map(str, states):
            if not (number.isascii() and number.isdigit()):
                raise ValueError(f"{number!r} is no XID: a number is wanted, as in 79:unhealthy,13:ignore")
        return {int(number): state for number, state in states.items()}


DEFAULT_OPTS: Final = (
    cfg.StrOpt(
        "state_path",
        default=STATE_PATH,
        help="Where devagent keeps what it must remember across restarts.",
    ),
    cfg.StrOpt(
        "host",
        mutable=True,
        help="The hypervisor's hostname as Nova knows it (openstack hypervisor list); it counts only where Nova "
        "keeps no UUID in /var/lib/nova/compute_id, by which its provider is found otherwise. "
        "Default: this host's full name.",
    ),
)
INVENTORY_OPTS: Final = (
    cfg.StrOpt(
        "policy_file",
        default=str(POLICY_FILE),
        mutable=True,
        help="The policy: which devices are given to virtual machines, and how. Without the file the "
        "built-in policy is used.",
    ),
    cfg.StrOpt(
        "nest",
        default="numa",
        mutable=True,
        choices=[
            ("numa", "devices below a provider per NUMA node"),
            ("pcie", "as numa, with a provider per PCIe switch in between"),
            ("flat", "devices directly below the compute node"),
        ],
        help="What stands between the compute node's provider and those of its devices.",
    ),
    cfg.IntOpt(
        "scan_interval",
        default=300,
        min=1,
        max=_DAY,
        mutable=True,
        help="Seconds between two full looks at the host. The kernel's events are acted upon at once; this is the "
        "net below them, for what makes no event.",
    ),
    cfg.IntOpt(
        "report_interval",
        default=300,
        min=1,
        max=_DAY,
        mutable=True,
        help="Seconds after which Placement is compared again though nothing changed here. Costs one small request.",
    ),
    cfg.FloatOpt(
        "debounce",
        default=0.2,
        min=0,
        max=60,
        mutable=True,
        help="Seconds of silence that end a burst of the kernel's events: one look is made for all of them.",
    ),
    cfg.IntOpt(
        "look_timeout",
        default=60,
        min=1,
        max=_HOUR,
        mutable=True,
        help="Seconds after which a look is given up and its process replaced. What hangs in the kernel is "
        "given up much earlier, and alone; this is for a driver plug-in that does not return.",
    ),
    cfg.IntOpt(
        "reconcile_interval",
        default=600,
        min=1,
        max=_DAY,
        mutable=True,
        help="Seconds between two comparisons of who holds devices: processes here, allocations in Placement.",
    ),
)
HEALTH_OPTS: Final = (
    cfg.IntOpt(
        "interval",
        default=60,
        min=1,
        max=_DAY,
        mutable=True,
        help="Seconds between two checks of every device's health.",
    ),
    cfg.IntOpt(
        "clean_checks",
        default=3,
        min=1,
        max=1000,
        mutable=True,
        help="How many checks in a row must find nothing before a device that was suspect or unhealthy is offered "
        "again. It is withdrawn at the first sign.",
    ),
    cfg.IntOpt(
        "flap_limit",
        default=3,
        min=1,
        max=1000,
        mutable=True,
        help="How often a device may fall ill within flap_window. After that it stays unhealthy until "
        "`devagent health clear`.",
    ),
    cfg.IntOpt(
        "flap_window",
        default=_HOUR,
        min=1,
        max=30 * _DAY,
        mutable=True,
        help="The seconds in which flap_limit counts.",
    ),
    cfg.Opt(
        "xids",
        type=XidStates(),
        default={},
        mutable=True,
        help="What errors of NVIDIA's driver mean where its own recovery action is not known, besides and instead "
        "of the built-in table: 79:unhealthy,13:ignore. States: ignore, suspect, unhealthy.",
    ),
    cfg.BoolOpt(
        "kernel_log",
        default=True,
        mutable=True,
        help="Whether /dev/kmsg is followed for XIDs. Without it they are not seen.",
    ),
)
PREPARE_OPTS: Final = (
    cfg.IntOpt(
        "deadline",
        default=240,
        min=1,
        max=_HOUR,
        mutable=True,
        help="Seconds within which the devices of a consumer are ready, or everything is undone. Keep it below what "
        "Nova waits for an accelerator ([compute]/arq_binding_timeout, 300).",
    ),
    cfg.IntOpt(
        "workers",
        default=16,
        min=1,
        max=256,
        help="How many consumers are prepared at the same time; as many again are released.",
    ),
    cfg.IntOpt(
        "expires_in",
        default=0,
        min=0,
        max=30 * _DAY,
        mutable=True,
        help="Seconds after which what was prepared, and no virtual machine has used, is released again, where the "
        "request does not say. 0: never.",
    ),
    cfg.BoolOpt(
        "check_allocations",
        default=True,
        mutable=True,
        help="Whether a consumer must hold in Placement what is prepared for it, and loses it here when it no longer "
        "does. Switch it off only where nobody allocates in Placement.",
    ),
    cfg.IntOpt(
        "tombstone",
        default=0,
        min=0,
        max=_DAY,
        mutable=True,
        help="Seconds after a release in which the same consumer is not prepared again, so that a request that comes "
        "late does not bring back what was released.",
    ),
)
IMAGES_OPTS: Final = (
    cfg.StrOpt(
        "directory",
        default="/etc/devagent/bitstreams",
        mutable=True,
        help="Images for FPGAs that `bitstream` of a request, or `blank` of the policy, may name. NAME is an image if "
        "NAME.sha256 is beside it, as sha256sum writes it.",
    ),
    cfg.IntOpt(
        "cache_size",
        default=4096,
        min=1,
        max=1 << 24,
        mutable=True,
        help="MiB that images may have in state_path. What was used longest ago goes first; what is prepared, and what "
        "the policy wipes with, stays.",
    ),
    cfg.StrOpt(
        "signing_key",
        mutable=True,
        help="A file with a public key (PEM; RSA or EC) that must have signed each image: NAME.sig beside it, or in "
        "Glance the property devagent_signature in base64. Default: no signature is asked for.",
    ),
)
API_OPTS: Final = (
    cfg.StrOpt(
        "unix_socket",
        default=SOCKET,
        help="Where the agent answers `devagent status` and the other commands.",
    ),
    cfg.StrOpt(
        "unix_socket_group",
        help="The group whose members may ask and command the agent, besides root and the agent's own user.",
    ),
    cfg.StrOpt(
        "listen",
        help="HOST:PORT where the API can be reached from other hosts, over TLS alone: 192.0.2.7:9443, "
        "[2001:db8::7]:9443. Nobody can by default. It needs auth, tls_cert and tls_key.",
    ),
    cfg.StrOpt(
        "auth",
        choices=[
            ("certificate", "by a certificate that tls_client_ca has issued to one of client_names; they may do all"),
            ("keystone", "by a token of Keystone's ([keystone_authtoken]), whose roles meet policy.yaml"),
        ],
        help="How who comes to listen is known.",
    ),
    cfg.StrOpt(
        "tls_cert",
        mutable=True,
        help="The certificate of this host, in a PEM file, followed by those between it and the authority. It is read "
        "again at a reload.",
    ),
    cfg.StrOpt("tls_key", mutable=True, help="The private key of tls_cert, in a PEM file without a password."),
    cfg.StrOpt(
        "tls_client_ca",
        mutable=True,
        help="With auth = certificate: the authorities that issue the certificates of clients, in a PEM file.",
    ),
    cfg.ListOpt(
        "client_names",
        default=[],
        mutable=True,
        help="With auth = certificate: who may call, by the CN of the certificate's subject or one of its DNS names: "
        "nova-compute.example.org,devagent-relay.example.org. They may do everything.",
    ),
    cfg.IntOpt(
        "threads",
        default=16,
        min=1,
        max=1024,
        help="How many calls are answered at the same time, on the socket and as many again over TLS.",
    ),
    cfg.IntOpt(
        "drain_timeout",
        default=30,
        min=0,
        max=_HOUR,
        mutable=True,
        help="Seconds that calls under way are given to end when the agent stops. Keep TimeoutStopSec= of the "
        "systemd unit above it.",
    ),
)

NOTIFICATIONS_OPTS: Final = (
    cfg.StrOpt(
        "mode",
        default="host",
        choices=[
            ("host", "for this host alone: what concerns it goes to its agent's socket"),
            ("relay", "for all hosts of a cell: each agent is told over TLS; a few processes share the work"),
        ],
        help="For whom `devagent listener` listens.",
    ),
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="Where Nova sends its notifications: transport_url of [oslo_messaging_notifications], else of [DEFAULT], "
        "in nova.conf. As in rabbit://user:password@broker1:5672,user:password@broker2:5672/.",
    ),
    cfg.ListOpt(
        "topics",
        default=["versioned_notifications"],
        help="As versioned_notifications_topics of [notifications] in nova.conf.",
    ),
    cfg.StrOpt("exchange", default="nova", help="As control_exchange in nova.conf."),
    cfg.StrOpt(
        "pool",
        help="The name of the queue. All listeners with the same share its notifications. Default: "
        "devagent-relay, or devagent- and nova_host with mode = host. Empty: the queues that Nova itself makes for the "
        "topics, where nobody else listens to these.",
    ),
    cfg.StrOpt(
        "nova_host",
        help="With mode = host: this host as [DEFAULT] host of nova-compute names it. Default: its hostname.",
    ),
    cfg.StrOpt(
        "agents",
        mutable=True,
        help="With mode = relay: where the agents are, with {host} for what Nova calls the host: "
        "https://{host}.mgmt.example.org:9443. Their [api] listen names the port.",
    ),
    cfg.StrOpt(
        "auth",
        default="certificate",
        mutable=True,
        choices=[
            ("certificate", "by cert and key"),
            ("keystone", "by tokens of the user in [placement], who needs the role service"),
        ],
        help="With mode = relay: how the agents know the relay, as their [api] auth.",
    ),
    cfg.StrOpt(
        "cacert", mutable=True, help="Who issues the agents' certificates, in a PEM file. Default: the system's."
    ),
    cfg.StrOpt("cert", mutable=True, help="The relay's own certificate, in a PEM file."),
    cfg.StrOpt("key", mutable=True, help="The private key of cert, in a PEM file."),
    cfg.IntOpt(
        "timeout",
        default=5,
        min=1,
        max=60,
        mutable=True,
        help="Seconds within which an agent has taken what it is told.",
    ),
    cfg.IntOpt(
        "tries",
        default=3,
        min=1,
        max=10,
        mutable=True,
        help="How often an agent is tried, with pauses of up to 5 s, before it counts as away.",
    ),
    cfg.IntOpt(
        "cool_down",
        default=30,
        min=1,
        max=_HOUR,
        mutable=True,
        help="Seconds after which an agent that is away is tried again, and told what it missed.",
    ),
    cfg.IntOpt(
        "threads",
        default=64,
        min=1,
        max=1024,
        help="How many notifications are passed on at the same time, and taken from the broker at most. A quarter of "
        "them waits for agents that do not answer.",
    ),
)
LIBVIRT_OPTS: Final = (
    cfg.StrOpt(
        "agent_down",
        default="fail",
        mutable=True,
        choices=[
            ("fail", "a server with a device of the host does not start here"),
            ("allow", "it starts with its devices as they are, which may be wrong or carry what others left"),
        ],
        help="What libvirt's hook does while the agent does not answer. Servers without such devices always start.",
    ),
)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Gives the options by group, for oslo-config-generator."""
    return [
        (DEFAULT, list(DEFAULT_OPTS)),
        ("inventory", list(INVENTORY_OPTS)),
        ("health", list(HEALTH_OPTS)),
        ("prepare", list(PREPARE_OPTS)),
        ("images", list(IMAGES_OPTS)),
        ("api", list(API_OPTS)),
        ("libvirt", list(LIBVIRT_OPTS)),
        ("notifications", list(NOTIFICATIONS_OPTS)),
    ]


def files(named: Sequence[str] = (), dirs: Sequence[str] = ()) -> tuple[Path, ...]:
    """Gives the files that `load` reads, in the order in which later ones override earlier ones.

    Raises ConfigurationError if a directory cannot be read.
    """
    named, dirs = _chosen(named, dirs)
    return (*map(Path, named), *(inner for folder in dirs for inner in conf_check.inside(Path(folder))))


def load(named: Sequence[str] = (), dirs: Sequence[str] = (), *, strict: bool = False, messaging: bool = False) -> Any:
    """Reads the configuration: what is named, else what stands in /etc/devagent.

    With `strict` a section or option that nobody knows is an error too, and oslo.log's options can be read; that costs
    imports which a quick command has no time for. With `messaging` that counts for oslo.messaging's sections too, which
    are the listener's alone. Raises ConfigurationError, with the file, section and option.
    """
    conf_check.check(files(named, dirs), list_opts(), strict=strict, messaging=messaging)
    conf = cfg.ConfigOpts()
    for group, options in list_opts():
        conf.register_opts(options, None if group == DEFAULT else group)
    if strict:
        conf_check.register_logging(conf)
    named, dirs = _chosen(named, dirs)
    with conf_check.one_line():
        conf(args=[], project="devagent", default_config_files=list(named), default_config_dirs=list(dirs))
        for group, options in list_opts():
            for option in options:  # a value is checked when it is read
                _ = conf[option.dest] if group == DEFAULT else conf[group][option.dest]
    return conf


def _chosen(named: Sequence[str], dirs: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if named or dirs:
        return named, dirs
    return [str(path) for path in (CONFIG_FILE,) if path.exists()], [str(p) for p in (CONFIG_DIR,) if p.exists()]
