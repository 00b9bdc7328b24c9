//! The whole way from sources to numbers.

use std::fs;
use std::path::Path;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn flag(text: &str) -> FlagValue {
    split_set(text).unwrap()
}

fn with_file(text: &str, check: impl FnOnce(&Path, Result<Settings, ConfigError>)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let sources = Sources { file: Some(path.clone()), file_needed: true, ..Sources::default() };
    check(&path, Settings::load(&sources));
}

fn problems(loaded: Result<Settings, ConfigError>) -> Vec<String> {
    match loaded.and_then(|settings| Config::new(&settings).map(drop)) {
        Err(ConfigError::Invalid { problems }) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_libraries() {
    let config = Config::new(&Settings::defaults()).unwrap();
    assert_eq!(config.transport.limits, transport::Limits::default());
    assert_eq!(config.transport.timing, transport::Timing::default());
    assert_eq!(config.transport.listen.port(), transport::DEFAULT_PORT);
    assert_eq!(config.limits, replica::Limits::default());
    assert_eq!(config.intervals, replica::Intervals::default());
    assert_eq!(config.door.limits, resp::Limits::default());
    assert_eq!(config.store.durability, store::Durability::default());
    assert!(config.store.redis.is_none() && config.door.tcp.is_none());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "gc.threshold = 2_000\ngc.slice_keys = 20\n\n[sync]\nretry_ms = 200\n").unwrap();
    let sources = Sources {
        file: Some(path.clone()),
        file_needed: true,
        environment: environment(&[("CRDT_GC_THRESHOLD", "3000"), ("CRDT_GC_SLICE_KEYS", "30"), ("HOME", "/root")]),
        flags: vec![flag("gc.threshold=4000"), flag("gc.threshold = 5000")],
    };
    let settings = Settings::load(&sources).unwrap();
    let shown = settings.shown();
    let of = |key: &str| shown.iter().find(|(found, ..)| found == key).cloned().unwrap();
    assert_eq!(of("gc.threshold"), ("gc.threshold".into(), "5000".into(), "flag --set".into()));
    assert_eq!(of("gc.slice_keys").2, "environment CRDT_GC_SLICE_KEYS");
    assert_eq!(of("sync.retry_ms").2, format!("file {}:5", path.display()));
    assert_eq!(of("sync.digest_ms"), ("sync.digest_ms".into(), "1000".into(), "default".into()));
    let config = Config::new(&settings).unwrap();
    assert_eq!((config.limits.gc_threshold, config.limits.gc_slice_keys, config.intervals.retry_ms), (5_000, 30, 200));
}

#[test]
fn others_are_told_what_is_configured_or_listened_on() {
    let told = |flags: &[&str]| {
        let flags = flags.iter().map(|text| flag(text)).collect();
        let settings = Settings::load(&Sources { flags, ..Sources::default() }).unwrap();
        Config::new(&settings).unwrap().transport.told_addresses()
    };
    assert!(told(&[]).is_empty());
    assert_eq!(told(&["transport.listen=127.0.0.1:7"]), ["127.0.0.1:7"]);
    assert_eq!(told(&["transport.listen=127.0.0.1:7", "transport.advertise=a:1,b:2"]), ["a:1", "b:2"]);
}

#[test]
fn unknown_keys_are_refused_with_the_one_that_was_meant() {
    with_file("[transport]\nlisen = \"[::]:1\"\n[redsi]\nhost = \"a\"\n[limits.deep]\nx = 1\n", |path, loaded| {
        let file = |line: usize| format!("file {}:{line}: ", path.display());
        let expected = [
            format!("{}limits.deep is no setting; crdt-engine config show lists all", file(5)),
            format!("{}redsi.host is no setting; did you mean redis.host?", file(3)),
            format!("{}transport.lisen is no setting; did you mean transport.listen?", file(2)),
        ];
        let mut found = problems(loaded);
        found.sort_by_key(|text| text.split(": ").nth(1).map(str::to_owned));
        assert_eq!(found, expected);
    });
    let variables = environment(&[("CRDT_REDIS_HSOT", "a"), ("CRDT_TEST_CLOCK_OFFSET_MS", "1"), ("CRDT_FOLDER", "/x")]);
    let sources = Sources { environment: variables, flags: vec![flag("listen=1")], ..Sources::default() };
    let expected = [
        "environment CRDT_REDIS_HSOT: CRDT_REDIS_HSOT is no setting; did you mean CRDT_REDIS_HOST?",
        "flag --set: listen is no setting; did you mean transport.listen?",
    ];
    assert_eq!(problems(Settings::load(&sources)), expected);
}

#[test]
fn values_that_do_not_fit_are_refused_without_being_told() {
    let text = "http.listen = \"9100\"\ngc.threshold = \"many\"\nredis.password = 5\n[peers]\nNODE = [\"a:1\"]\n\
                node_02 = [\"a\"]\n";
    with_file(text, |_, loaded| {
        let found = problems(loaded);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|text| text.contains(" must be ") && !text.contains("many")), "{found:?}");
    });
}

#[test]
fn values_that_do_not_fit_each_other_are_refused_together() {
    let text = "transport.keep_alive_ms = 9_000\ndoor.listen = \"127.0.0.1:6380\"\nsync.digest_min_ms = 2_000\n\
                redis.url = \"redis://a\"\nredis.host = \"b\"\n";
    with_file(text, |_, loaded| assert_eq!(problems(loaded).len(), 4));
}

#[test]
fn a_file_that_is_no_toml_tells_the_line_and_not_its_content() {
    with_file("\n\nredis.password = \"s3cret\n", |path, loaded| {
        let error = loaded.unwrap_err();
        assert_eq!(error.code(), "ERR_CONFIG_SYNTAX");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}:", path.display())), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    });
}

#[test]
fn a_missing_file_matters_only_when_it_was_named() {
    let sources = Sources { file: Some("/no/such/config.toml".into()), ..Sources::default() };
    assert_eq!(Settings::load(&sources).unwrap(), Settings::defaults());
    let named = Sources { file_needed: true, ..sources };
    assert_eq!(Settings::load(&named).unwrap_err().code(), "ERR_CONFIG_FILE");
}

#[test]
fn secrets_are_hidden_when_they_are_set() {
    let sources = Sources { flags: vec![flag("door.password=s3cret")], ..Sources::default() };
    let settings = Settings::load(&sources).unwrap();
    assert!(settings.shown().iter().all(|(_, value, _)| !value.contains("s3cret")));
    let shown = settings.shown();
    let value = |key: &str| shown.iter().find(|(found, ..)| found == key).map(|(_, value, _)| value.as_str());
    assert_eq!(value("door.password"), Some(HIDDEN));
    assert_eq!(value("redis.password"), Some("\"\""));
}

#[test]
fn a_redis_is_chosen_by_its_host_alone() {
    let redis = |pairs: &[(&str, &str)]| {
        let sources = Sources { environment: environment(pairs), ..Sources::default() };
        Config::new(&Settings::load(&sources).unwrap()).unwrap().store.redis.unwrap().url
    };
    assert_eq!(redis(&[("CRDT_REDIS_HOST", "cache")]), "redis://cache:6379/0");
    assert_eq!(redis(&[("CRDT_REDIS_HOST", "::1"), ("CRDT_REDIS_PORT", "7")]), "redis://[::1]:7/0");
    let login = [("CRDT_REDIS_HOST", "cache"), ("CRDT_REDIS_USER", "me"), ("CRDT_REDIS_PASSWORD", "a@b/c")];
    assert_eq!(redis(&login), "redis://me:a%40b%2Fc@cache:6379/0");
    let socket = [("CRDT_REDIS_HOST", "/run/r.sock"), ("CRDT_REDIS_PASSWORD", "x&y"), ("CRDT_REDIS_DATABASE", "3")];
    assert_eq!(redis(&socket), "unix:///run/r.sock?db=3&pass=x%26y");
}

#[test]
fn a_new_file_means_the_defaults_with_and_without_its_marks() {
    let text = config_text(&Settings::defaults());
    assert!(text.lines().all(|line| line.chars().count() <= 120));
    with_file(&text, |_, loaded| assert_eq!(loaded.unwrap(), Settings::defaults()));
    let is_value = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let unmarked: String =
        text.lines().map(|line| format!("{}\n", if is_value(line) { &line[1..] } else { line })).collect();
    with_file(&unmarked, |_, loaded| {
        let settings = loaded.unwrap();
        for (key, given) in Settings::defaults().iter() {
            let found = settings.iter().find(|(found, _)| *found == key).map(|(_, given)| given.clone()).unwrap();
            assert_eq!(found.value, given.value, "{key}");
            assert!(matches!(found.origin, Origin::File { .. }), "{key} stands in the file");
        }
    });
}

#[test]
fn a_new_file_keeps_what_the_command_line_set() {
    let flags = vec![flag("http.listen=off"), flag("peers.node_02=a:1,b:2")];
    let sources = Sources { flags, environment: environment(&[("CRDT_GC_THRESHOLD", "7")]), ..Sources::default() };
    let text = config_text(&Settings::load(&sources).unwrap());
    with_file(&text, |_, loaded| {
        let config = Config::new(&loaded.unwrap()).unwrap();
        assert!(config.http.listen.is_none());
        assert_eq!(config.peers[&NodeId::new("node_02").unwrap()], ["a:1", "b:2"]);
        assert_eq!(config.limits.gc_threshold, 10_000, "the environment is not written down");
    });
}

#[test]
fn the_document_is_up_to_date() {
    crate::codes::assert_document("docs/configuration.md", &configuration_markdown());
}

#[test]
fn tls_to_redis_is_asked_for_whole_or_not_at_all() {
    let load = |flags: &[&str]| {
        let flags = flags.iter().map(|text| flag(text)).collect();
        Settings::load(&Sources { flags, ..Sources::default() }).and_then(|settings| Config::new(&settings))
    };
    let redis = |flags: &[&str]| load(flags).unwrap().store.redis.unwrap();
    let by_host =
        ["redis.host=cache", "redis.tls=true", "redis.tls_ca=/ca", "redis.tls_certificate=/c", "redis.tls_key=/k"];
    let by_host = redis(&by_host);
    assert_eq!(by_host.url, "rediss://cache:6379/0");
    let client = Some(("/c".into(), "/k".into()));
    assert_eq!(by_host.tls, store::RedisTls { ca: Some("/ca".into()), client });
    assert!(redis(&["redis.url=rediss://cache", "redis.tls_ca=/ca"]).tls.ca.is_some());
    for (flags, key) in [
        (&["redis.url=redis://cache", "redis.tls_ca=/ca"][..], "redis.tls_ca is set"),
        (&["redis.url=redis://cache", "redis.tls=true"], "redis.tls is set"),
        (&["redis.host=cache", "redis.tls_ca=/ca"], "redis.tls = true"),
        (&["redis.host=cache", "redis.tls=true", "redis.tls_key=/k"], "belong together"),
        (&["redis.host=/run/r.sock", "redis.tls=true"], "Unix socket"),
    ] {
        match load(flags) {
            Err(ConfigError::Invalid { problems }) => {
                assert_eq!(problems.len(), 1, "{flags:?}");
                assert!(problems.iter().any(|problem| problem.to_string().contains(key)), "{flags:?}: {problems:?}");
            }
            other => panic!("{flags:?}: {other:?}"),
        }
    }
}

#[test]
fn times_of_membership_are_those_of_a_wan_and_fit_together() {
    let load = |flags: &[&str]| {
        let flags = flags.iter().map(|text| flag(text)).collect();
        Settings::load(&Sources { flags, ..Sources::default() }).and_then(|settings| Config::new(&settings))
    };
    let timing = load(&[]).unwrap().membership;
    assert_eq!(
        (timing.probe_ms, timing.probe_rtt_ms, timing.suspect_ms, timing.announce_ms),
        (5_000, 2_000, 30_000, 5_000)
    );
    let brisk = load(&["membership.probe_ms=300", "membership.probe_rtt_ms=100", "membership.suspect_ms=600"]).unwrap();
    assert_eq!((brisk.membership.probe_ms, brisk.membership.suspect_ms), (300, 600));
    for (set, told) in [
        (&["membership.probe_rtt_ms=2501"][..], "at most half"),
        (&["membership.suspect_ms=4999"], "must not be below membership.probe_ms"),
        (&["door.buffers_bytes_max=18874367"], "must be at least 18874368"),
    ] {
        let problems = match load(set) {
            Err(ConfigError::Invalid { problems }) => problems,
            other => panic!("{set:?}: {other:?}"),
        };
        assert!(problems.len() == 1 && problems[0].to_string().contains(told), "{set:?}: {problems:?}");
    }
}

#[test]
fn a_line_in_the_wrong_section_and_a_key_that_is_there_twice_are_named() {
    with_file("[peers]\nnode_02 = [\"a:1\"]\ngc.threshold = 5\n", |path, loaded| {
        let expected = format!(
            "file {}:3: gc.threshold stands under [peers]; move it above the first section of the file, or under [gc]",
            path.display()
        );
        assert_eq!(problems(loaded), [expected]);
    });
    with_file("[redis]\npassword = \"s3cret\"\npassword = \"s3cret\"\n", |path, loaded| {
        let told = loaded.unwrap_err().to_string();
        let expected = format!("{}:3: this is no TOML: password stands there twice; keep one of them", path.display());
        assert_eq!(told, expected);
    });
}
