use std::io::Write;

use super::*;

fn load_text(text: &str, sets: &[&str]) -> Result<Config, ConfigErrors> {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let sources = Sources {
        file: Some(file.path().into()),
        sets: sets.iter().map(|s| (*s).to_owned()).collect(),
        ..Sources::default()
    };
    load(&sources, std::iter::empty(), Purpose::Agent)
}

fn mistakes(text: &str, sets: &[&str]) -> Vec<String> {
    load_text(text, sets).expect_err("mistakes expected").0
}

const GOOD: &str = "[powerjob]\napp = \"a\"\nservers = [\"127.0.0.1:7700\"]\n";

#[test]
fn a_small_file_is_enough() {
    let config = load_text(GOOD, &[]).expect("valid");
    assert_eq!(config.lane.len(), 1);
    assert_eq!(config.lane[0].listen, "0.0.0.0:27777");
    assert_eq!(config.admin.listen, "127.0.0.1:8780");
}

#[test]
fn every_mistake_is_in_one_report_with_its_line_and_the_nearest_key() {
    let all = mistakes(
        "[powerjob]\nap = \"a\"\nservers = \"x\"\n[lanes]\n[admin]\nlisten = 5\n[shutdown]\non_sigterm = \"stay\"\n",
        &[],
    );
    let has = |line: &str, text: &str| {
        assert!(all.iter().any(|m| m.contains(line) && m.contains(text)), "{line} {text}: {all:#?}");
    };
    has(":2:", "unknown key `powerjob.ap`; did you mean `app`?");
    has(":3:", "`powerjob.servers` is the text \"x\"; accepted: a list");
    has(":4:", "unknown key `lanes`; did you mean `lane`?");
    has(":6:", "`admin.listen` is `5`; accepted: text in quotes");
    has(":8:", "accepted: detach, drain");
    assert_eq!(all.len(), 5, "{all:#?}");
}

#[test]
fn what_fits_no_schema_is_found_as_well() {
    let text = "[powerjob]\nservers = [\"nope\", \"https://a:1\"]\n[admin]\nlisten = \"0.0.0.0:1\"\n[[lane]]\nslots = 0\nlisten = \"[::1]:5\"\nprocessors = [\"RunLLMTst\"]\n\
        [databases.r]\nurl = \"mysql://\"\n[official]\ncharset = \"klingon\"\nsql_deny = [\"(\"]\n[object_stores.m]\nendpoint = \"minio\"\ncredentials_file = \"/nowhere/c.toml\"\n[docker]\nendpoint = \"/run/d.sock\"\n[paths]\nallowed_roots = [\"data\"]\n[platform]\nbase_url = \"platform:8080\"\n";
    let all = mistakes(text, &[]);
    for wanted in [
        "`powerjob.app` is missing",
        "entry 1: `nope` is not host:port",
        "asks for TLS",
        "set `admin.token_file`",
        "`lane.0.slots` is 0",
        "IPv6 does not work",
        "did you mean `RunLLMTest`?",
        "`databases.r.url` is `mysql:..`: the `mysql` URL does not name one host; accepted: jdbc:mysql://",
        "`official.charset`: `klingon` is no encoding",
        "`official.sql_deny`: `(` is no regular expression",
        "accepted: a URL such as",
        "/nowhere/c.toml cannot be read",
        "`docker.endpoint`",
        "not an absolute path",
        "`platform.base_url` is `platform:8080`; accepted: an address such as http://platform:8080",
    ] {
        assert!(all.iter().any(|m| m.contains(wanted)), "{wanted}: {all:#?}");
    }
    assert!(all.iter().all(|m| m.contains(".toml:") || m.contains('`')), "{all:#?}");
}

#[test]
fn a_password_in_a_url_is_refused_and_never_repeated() {
    let text = format!(
        "{GOOD}[databases.r]\nurl = \"mysql://u:sekret@h/d\"\n[object_stores.m]\nendpoint = \"http://u:sekret@minio:9000\"\n"
    );
    let all = mistakes(&text, &[]);
    assert!(all.iter().all(|m| !m.contains("sekret")), "{all:#?}");
    for wanted in [
        "`databases.r.url` is `mysql://u@h:3306/d`: a password does not belong into the URL, give it in `password_file`",
        "give them in `credentials_file`",
        "`object_stores.m.credentials_file` is missing",
    ] {
        assert!(all.iter().any(|m| m.contains(wanted)), "{wanted}: {all:#?}");
    }
}

#[test]
fn a_registry_is_named_as_images_name_it_and_has_a_user_and_a_password_file() {
    let password = tempfile::NamedTempFile::new().expect("temporary file");
    let registry = |key: &str, address: &str, user: &str| {
        format!(
            "[registries.{key}]\naddress = \"{address}\"\nuser = \"{user}\"\npassword_file = \"{}\"\n",
            password.path().display()
        )
    };
    let good = format!("{GOOD}{}{}", registry("lab", "registry.lab:5000", "rig"), registry("hub", "docker.io", "rig"));
    assert_eq!(load_text(&good, &[]).expect("valid").registries.len(), 2);
    let bad =
        [registry("a", "https://u:sekret@x", "rig"), registry("b", "lab", "rig"), registry("c", "lab.x/team", "rig")];
    let twice = [registry("d", "one.lab", "rig"), registry("e", "One.Lab", "")];
    let text = format!(
        "{GOOD}[docker]\npull_tries = 0\npull_silence_seconds = 0\n{}{}[registries.f]\naddress = \"f.lab\"\nuser = \"u\"\n",
        bad.concat(),
        twice.concat()
    );
    let all = mistakes(&text, &[]);
    assert!(all.iter().all(|m| !m.contains("sekret")), "{all:#?}");
    for wanted in [
        "`registries.a.address` is `https://***@x`",
        "`registries.b.address` is `lab`; accepted: the registry as image names have it",
        "`registries.c.address` is `lab.x/team`",
        "`registries.e.address`: another registry has the address `One.Lab` as well",
        "`registries.e.user` is missing",
        "`registries.f.password_file` is missing",
        "`docker.pull_tries` is 0",
        "`docker.pull_silence_seconds` is 0",
    ] {
        assert!(all.iter().any(|m| m.contains(wanted)), "{wanted}: {all:#?}");
    }
    assert_eq!(all.len(), 8, "{all:#?}");
}

#[test]
fn official_processors_are_named_by_their_keys_and_lanes_serve_only_enabled_ones() {
    let all = mistakes(&format!("{GOOD}[official]\nenable = [\"shell\", \"bash\"]\n"), &[]);
    assert!(all.iter().any(|m| m.contains("shell, python, powershell, http, dynamic-sql")), "{all:#?}");
    let class = "tech.powerjob.official.processors.impl.script.ShellProcessor";
    let lane = format!("{GOOD}[[lane]]\nprocessors = [\"{class}\"]\n");
    let all = mistakes(&lane, &[]);
    assert!(all.iter().any(|m| m.contains("add \"shell\" to `official.enable`")), "{all:#?}");
    let config = load_text(&lane, &["official.enable=[\"shell\"]"]).expect("valid");
    assert!(super::official_names(&config).contains(&class));
}

#[test]
fn set_is_stronger_than_the_file_and_its_mistakes_name_it() {
    let config =
        load_text(GOOD, &["powerjob.app=b", "lane.0.slots=2", "paths.allowed_roots=[\"/data\"]"]).expect("valid");
    assert_eq!((config.powerjob.app.as_str(), config.lane[0].slots), ("b", 2));
    let all = mistakes(GOOD, &["lane.0.slots=many", "powerjob"]);
    assert!(
        all.iter().any(|m| m.starts_with("--set lane.0.slots=many: `lane.0.slots` is the text \"many\"")),
        "{all:#?}"
    );
    assert!(all.iter().any(|m| m.contains("`key=value` is expected")), "{all:#?}");
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some("/nowhere/testrig.toml".into()), ..Sources::default() };
    let e = load(&sources, std::iter::empty(), Purpose::Agent).expect_err("no file").to_string();
    assert!(e.contains("/nowhere/testrig.toml: cannot be read"), "{e}");
}
