//! How flags, variables and the file work together.

use std::io;
use std::path::Path;

use model::access::limits::VhostLimit;
use model::policy::PolicyValue;

use super::*;

fn load(args: &[&str], env: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let env = |name: &str| {
        env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let read = |path: &Path| match path.to_str() {
        Some("r.conf") => Ok(file.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Config::load([&["ringtail"], args].concat(), &env, &read)
}

fn file(text: &str) -> Config {
    load(&["--config", "r.conf"], &[], text).unwrap()
}

fn sentence(args: &[&str], text: &str) -> String {
    load(args, &[], text).unwrap_err().to_string()
}

#[test]
fn nothing_given_means_defaults() {
    // Cargo itself gives the folder, for `cargo run` out of a checkout.
    let given = std::env::var_os("RINGTAIL_DATA_DIR").map(PathBuf::from);
    let data_dir = given.unwrap_or(Config::default().data_dir);
    let defaults = Config { data_dir, ..Config::default() };
    assert_eq!(load(&[], &[], "").unwrap(), defaults);
    assert_eq!(file("# nothing"), defaults);
}

#[test]
fn flags_go_before_the_file() {
    let text = "listeners.tcp.default = 1000\nlisteners.tcp.1 = [::1]:1001";
    let listen = ["0.0.0.0:1000", "[::1]:1001"].map(|address| address.parse().unwrap());
    assert_eq!(file(text).listen, listen);
    let args = ["--config", "r.conf", "--listen", "127.0.0.1:1", "--listen", "2"];
    let listen = ["127.0.0.1:1", "0.0.0.0:2"].map(|address| address.parse().unwrap());
    assert_eq!(load(&args, &[], text).unwrap().listen, listen);
}

#[test]
fn all_flags() {
    let args = ["--data-dir", "/d", "--shards", "3", "--cpus", "0-1,4", "--log-format", "json"];
    let config = load(&args, &[], "").unwrap();
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!((config.shards, config.cpus), (Some(3), Some(vec![0, 1, 4])));
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn all_keys() {
    let config = file(
        "default_user = u\ndefault_pass = p\ndefault_vhost = v\nchannel_max = 7\n\
         load_definitions = /d.json\nframe_max = 8192\nheartbeat = 5\n\
         handshake_timeout = 1\nmax_message_size = 1M\n\
         vm_memory_high_watermark.relative = 0.25\nlog.console.level = warning",
    );
    assert_eq!(config.load_definitions.as_deref(), Some(Path::new("/d.json")));
    let other = file("management.load_definitions = /e").load_definitions;
    assert_eq!(other.as_deref(), Some(Path::new("/e")));
    assert_eq!([config.default_user, config.default_vhost], ["u", "v"]);
    assert_eq!(config.default_pass.expose(), b"p");
    assert_eq!((config.channel_max, config.frame_max, config.heartbeat_s), (7, 8192, 5));
    assert_eq!((config.handshake_timeout_ms, config.max_message_size), (1, 1 << 20));
    assert_eq!(config.memory.limit(1000), 250);
    assert_eq!(config.log_level, LogLevel::Warning);
    let strategy = file("vm_memory_calculation_strategy = allocated").memory_strategy;
    assert_eq!(strategy, MemoryStrategy::Allocated);
    let absolute = file("vm_memory_high_watermark.absolute = 2GB").memory;
    assert_eq!(absolute.limit(1), 2_000_000_000);
}

#[test]
fn the_disk() {
    let config = file(
        "disk_free_limit.absolute = 2GB\nvm_memory_high_watermark_paging_ratio = 0.25\n\
         durability = relaxed\ndurability.interval = 1s",
    );
    assert_eq!(config.disk_free.limit(1), 2_000_000_000);
    assert_eq!(config.paging_ratio.to_string(), "0.25");
    assert_eq!((config.durability, config.durability_interval_ms), (DurabilityMode::Relaxed, 1000));
    assert_eq!(file("disk_free_limit.relative = 1.5").disk_free.limit(1000), 1500);
    let defaults = Config::default();
    assert_eq!(
        (defaults.durability, defaults.disk_free.limit(1)),
        (DurabilityMode::Strict, 50_000_000)
    );
    for wrong in [
        "disk_free_limit.relative = -1",
        "disk_free_limit.relative = inf",
        "vm_memory_calculation_strategy = legacy",
        "vm_memory_high_watermark_paging_ratio = 0",
        "vm_memory_high_watermark_paging_ratio = 1.5",
        "durability = lax",
        "durability.interval = 0",
    ] {
        let text = sentence(&["--config", "r.conf"], wrong);
        assert!(text.contains("allowed is"), "{text}");
    }
}

#[test]
fn the_poller() {
    assert_eq!(Config::default().io, IoMode::Auto);
    assert_eq!(file("io = epoll").io, IoMode::Epoll);
    assert_eq!(load(&["--io", "uring"], &[], "").unwrap().io, IoMode::Uring);
    let args = ["--config", "r.conf", "--io", "auto"];
    assert_eq!(load(&args, &[], "io = epoll").unwrap().io, IoMode::Auto);
    assert!(sentence(&["--config", "r.conf"], "io = select").contains("allowed is auto"));
    assert!(sentence(&["--io", "select"], "").contains("uring"));
}

#[test]
fn faults_of_the_disk() {
    let read = |text| load(&[], &[("RINGTAIL_TEST_DISK", text)], "");
    assert_eq!(read("log:sync:eio:3").unwrap().disk_faults.len(), 1);
    let refusal = read("log:sync").unwrap_err().to_string();
    assert!(refusal.contains("RINGTAIL_TEST_DISK") && refusal.contains("log:sync"), "{refusal}");
}

#[test]
fn loopback_users() {
    assert_eq!(file("loopback_users = none").loopback_users, [""; 0]);
    assert_eq!(file("loopback_users.guest = false").loopback_users, [""; 0]);
    assert_eq!(file("loopback_users.a = true\nloopback_users.b = true").loopback_users, ["a", "b"]);
}

#[test]
fn debug_output_does_not_show_the_password() {
    let config = file("default_pass = hunter2");
    assert_eq!(config.default_pass.expose(), b"hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_environment_names_the_first_user() {
    let env = [("RABBITMQ_DEFAULT_USER", "guest"), ("RABBITMQ_DEFAULT_PASS", "p")];
    let config = load(&["--config", "r.conf"], &env, "default_pass = q").unwrap();
    assert_eq!((config.default_user.as_str(), config.default_pass.expose()), ("guest", &b"p"[..]));
    assert_eq!(config.loopback_users, [""; 0]);
    let env = [("RABBITMQ_DEFAULT_USER", "me"), ("RABBITMQ_DEFAULT_VHOST", "v")];
    let config = load(&[], &env, "").unwrap();
    assert_eq!((config.default_vhost.as_str(), config.loopback_users.len()), ("v", 1));
}

#[test]
fn unknown_keys_are_named() {
    let config = file("heartbeat = 1\nqueue_master_locator = min-masters");
    assert_eq!(config.warnings, ["r.conf, line 2: unknown key 'queue_master_locator' is ignored"]);
}

#[test]
fn a_slip_of_the_pen_is_guessed() {
    let slips = [
        ("heartbaet", "heartbeat"),
        ("listener.tcp.default", "listeners.tcp.default"),
        ("tcp_listen_options.no_delay", "tcp_listen_options.nodelay"),
        ("chanel_max", "channel_max"),
    ];
    for (slip, meant) in slips {
        let config = file(&format!("{slip} = 1"));
        let end = format!("unknown key '{slip}' is ignored; is '{meant}' meant?");
        assert!(config.warnings[0].ends_with(&end), "{:?}", config.warnings);
    }
}

#[test]
fn limits_of_the_node() {
    let limits = |config: Config| {
        [
            config.connection_max,
            config.channel_max_per_node,
            config.consumer_max_per_channel,
            config.cluster_queue_limit,
            config.cluster_exchange_limit,
        ]
    };
    assert_eq!(limits(Config::default()), [None; 5]);
    let text = "connection_max = 1\nchannel_max_per_node = 2\nconsumer_max_per_channel = 3\n\
                cluster_queue_limit = 4\ncluster_exchange_limit = 5";
    assert_eq!(limits(file(text)), [1, 2, 3, 4, 5].map(Some));
    assert_eq!(file("connection_max = 9\nconnection_max = infinity").connection_max, None);
    assert_eq!(file("max_channels_per_connection = 5").channel_max, 5);
    assert_eq!(file("frame_max = 64KB\ninitial_frame_max = 4096").frame_max, 65_536);
    assert_eq!(file("consumer_timeout = 1800000").consumer_timeout_ms, Some(1_800_000));
    assert_eq!(file("consumer_timeout = 30m").consumer_timeout_ms, Some(1_800_000));
    assert_eq!(file("consumer_timeout = undefined").consumer_timeout_ms, None);
    assert_eq!(file("handshake_timeout = 20s").handshake_timeout_ms, 20_000);
    assert_eq!(file("handshake_timeout = infinity").handshake_timeout_ms, u64::MAX);
}

#[test]
fn options_of_sockets() {
    let options = [
        "backlog = 17",
        "nodelay = false",
        "keepalive = true",
        "sndbuf = 64KB",
        "recbuf = 5000",
        "linger.on = true",
        "linger.timeout = 3",
        "exit_on_close = false",
    ];
    let lines = options.map(|line| format!("tcp_listen_options.{line}")).join("\n");
    let tcp = TcpOptions {
        backlog: 17,
        nodelay: false,
        keepalive: true,
        sndbuf: Some(65_536),
        recbuf: Some(5000),
        linger: true,
        linger_s: 3,
    };
    let config = file(&format!("{lines}\nnum_acceptors.tcp = 10"));
    assert_eq!((config.tcp, config.warnings), (tcp, Vec::new()));
}

#[test]
fn mechanisms() {
    let config = file("auth_mechanisms.1 = AMQPLAIN\nauth_mechanisms.2 = EXTERNAL");
    assert_eq!(config.auth_mechanisms, [Mechanism::AmqPlain]);
    assert_eq!(config.warnings, ["auth_mechanisms.2: EXTERNAL is not built and not offered"]);
}

#[test]
fn what_new_vhosts_get() {
    let config = file(
        "default_limits.vhosts.2.max_queues = 10\ndefault_limits.vhosts.1.pattern = ^dev\n\
         default_limits.vhosts.1.max_connections = 5\ndefault_limits.vhosts.1.max_queues = 6\n\
         default_policies.operator.a.expires = 1h\n\
         default_policies.operator.a.queue_pattern = apple\n\
         default_policies.operator.a.vhost_pattern = banana\n\
         default_policies.operator.a.max_length_bytes = 1MB\n\
         default_policies.operator.a.classic_queues.ha_mode = exactly\n\
         default_policies.operator.b.vhost_pattern = x\n",
    );
    let limits: Vec<_> = config.vhost_defaults.limits.into_values().collect();
    let [one, other] = &limits[..] else { panic!("{limits:?}") };
    assert_eq!((one.vhosts.as_deref(), one.limits.len()), (Some("^dev"), 2));
    assert_eq!((other.vhosts.as_deref(), other.limits[&VhostLimit::Queues]), (None, 10));
    let policies: Vec<_> = config.vhost_defaults.policies.into_iter().collect();
    let [(name, policy)] = &policies[..] else { panic!("{policies:?}") };
    assert_eq!((&**name, policy.vhosts.as_deref()), ("a", Some("banana")));
    let expected = [("expires", 3_600_000), ("max-length-bytes", 1 << 20)];
    let expected = expected.map(|(key, value)| (key.into(), PolicyValue::Integer(value)));
    assert_eq!(policy.definition, expected.into());
    assert_eq!(config.warnings, ["default_policies.operator.b has no setting and no effect"]);
    let text = "default_limits.vhosts.a.max_queus = 1\ndefault_policies.operator.a.b.c = 1";
    let unknown = "r.conf, line 1: unknown key 'default_limits.vhosts.a.max_queus' is ignored; is \
                   'default_limits.vhosts.a.max_queues' meant?";
    let warnings = file(text).warnings;
    assert_eq!(warnings[0], unknown);
    let other = "r.conf, line 2: unknown key 'default_policies.operator.a.b.c' is ignored";
    assert!(warnings[1].starts_with(other), "{warnings:?}");
}

#[test]
fn no_listener() {
    assert_eq!(file("listeners.tcp = none").listen, []);
}

#[test]
fn values_out_of_the_environment() {
    let args = ["--config", "r.conf"];
    let user = |name: &str| load(&args, &[("SEED_USER", name)], "default_user = $(SEED_USER)");
    assert_eq!(user("anna").unwrap().default_user, "anna");
    assert_eq!(
        sentence(&args, "\ndefault_user = $(SEED_USER)"),
        "r.conf, line 2: the value of 'default_user' needs the environment variable SEED_USER",
    );
}

#[test]
fn wrong_values_are_explained() {
    let wrong = [("--shards", "0"), ("--listen", "here"), ("--cpus", "x"), ("--log-format", "xml")];
    for (flag, value) in wrong {
        let text = sentence(&[flag, value], "");
        assert!(text.contains(flag) && text.contains(&format!("'{value}'")), "{text}");
    }
    assert!(sentence(&["--listen", "here"], "").contains("allowed is ADDRESS:PORT"));
    assert!(sentence(&["--shards", "0"], "").contains("from 1 to 1024"));
    assert_eq!(
        sentence(&["--config", "r.conf"], "\nheartbeat = soon"),
        "r.conf, line 2: invalid value 'soon' for 'heartbeat': \
         allowed is seconds from 0 (off) to 65535",
    );
    assert!(sentence(&["--config", "r.conf"], "a").contains("line 1"));
    assert!(sentence(&["--config", "none"], "").contains("--config none: cannot read the file"));
}

#[test]
fn every_key_refuses_nonsense() {
    // Names, passwords and paths may be anything, and what has no effect.
    let free = [
        "default_user",
        "default_pass",
        "default_vhost",
        "default_users.*.password",
        "default_users.*.tags",
    ];
    let is_free = |key: &keys::Key| {
        free.contains(&key.name) || [keys::DEFINITIONS, "a text"].contains(&key.allowed)
    };
    for key in keys::all().filter(|key| !is_free(key)) {
        let name = key.name.replace('*', "x");
        let text = sentence(&["--config", "r.conf"], &format!("{name} = ?"));
        assert!(text.contains(key.allowed), "{text}");
    }
}

#[test]
fn the_table_is_sound() {
    use clap::CommandFactory;
    Flags::command().debug_assert();
}
