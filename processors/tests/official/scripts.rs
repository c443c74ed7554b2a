//! What scripts say and how they end by themselves.

use testrig_processors::official::Switch;

use crate::rig::{Rig, alive, pid_in};

#[tokio::test]
async fn a_shell_script_succeeds_with_both_streams_in_log_and_result_and_leaves_no_file() {
    let rig = Rig::new();
    let ctx = rig.task(11, "echo one\necho two >&2\necho \"$0\"\necho three");
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(result.success, "{result:?}");
    let text = &result.message;
    assert!(text.starts_with("[INPUT]: one\n") && text.ends_with("three\n;[ERROR]: two\n"), "{text}");
    assert!(text.contains("/shell_11.sh\n"), "{text}");
    let log = rig.log(&ctx);
    for line in ["INFO agent using params: echo one", "INFO stdout one\n", "INFO stderr two\n", "INFO stdout three\n"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(rig.left(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn exit_codes_and_signals_fail_with_the_last_lines() {
    let rig = Rig::new();
    let ctx = rig.task(12, "echo before; echo why >&2; exit 3");
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(!result.success && result.retryable, "{result:?}");
    assert_eq!(result.message, "exit code 3; [INPUT]: before\n;[ERROR]: why\n");
    let result = rig.run(Switch::Shell, &rig.task(13, "echo x; kill -9 $$")).await;
    assert!(!result.success && result.message.starts_with("killed by signal 9 (SIGKILL); [INPUT]: x\n"), "{result:?}");
}

#[tokio::test]
async fn a_python_script_runs_and_its_instance_params_come_first() {
    let rig = Rig::new();
    let mut ctx = rig.task(14, "raise SystemExit('the job parameters were run')");
    ctx.instance_params = Some("import sys\nprint('from python', sys.argv[0].endswith('python_14.py'))".into());
    let result = rig.run(Switch::Python, &ctx).await;
    assert!(result.success && result.message == "[INPUT]: from python True\n;[ERROR]: ", "{result:?}");
    // In a workflow the node's own parameters hold.
    ctx.wf_instance_id = Some(1);
    let result = rig.run(Switch::Python, &ctx).await;
    assert!(!result.success && result.message.contains("exit code 1"), "{result:?}");
}

#[tokio::test]
async fn output_is_read_as_utf_8_or_else_in_the_configured_charset() {
    let rig = Rig::new();
    let ctx = rig.task(15, "echo 你好 utf8; printf '\\304\\343\\272\\303 gbk\\n'; printf 'no line feed'");
    let result = rig.run(Switch::Shell, &ctx).await;
    assert_eq!(result.message, "[INPUT]: 你好 utf8\n你好 gbk\nno line feed\n;[ERROR]: ");
    let log = rig.log(&ctx);
    assert!(log.contains("INFO stdout 你好 gbk\n") && log.contains("INFO stdout no line feed\n"), "{log}");
}

#[tokio::test]
async fn of_very_much_output_every_line_is_in_the_log_and_the_last_ones_in_the_result() {
    let rig = Rig::new();
    let ctx = rig.task(16, "i=0; while [ $i -lt 20000 ]; do echo \"line $i of many\"; i=$((i+1)); done");
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(result.success && result.message.contains("(what stood before is in the log)"), "{result:?}");
    assert!(result.message.contains("line 19999 of many\n;[ERROR]: ") && result.message.len() < 8000);
    let log = rig.log(&ctx);
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("INFO stdout ")).collect();
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().enumerate().all(|(i, line)| *line == format!("INFO stdout line {i} of many")));
}

#[tokio::test]
async fn what_a_script_leaves_in_the_background_lives_on_and_open_pipes_are_not_waited_for() {
    let rig = Rig::new();
    let pid_file = rig.place.dir.path().join("pid");
    let script = format!("nohup sleep 300 & echo $! > {}; echo started", pid_file.display());
    let ctx = rig.task(17, &script);
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(result.success && result.message.contains("[INPUT]: started\n"), "{result:?}");
    let pid = pid_in(&pid_file).await;
    assert!(alive(pid), "{}", rig.log(&ctx));
    assert!(rig.log(&ctx).contains("in the background"), "{}", rig.log(&ctx));
    assert!(!rig.left().is_empty(), "its files stay as long as it writes to them");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("ended");
    while alive(pid) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The next script clears up behind it.
    assert!(rig.run(Switch::Shell, &rig.task(18, "true")).await.success);
    assert_eq!(rig.left(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_script_may_be_downloaded_from_an_allowed_host() {
    let rig = Rig::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address");
    let app = axum::Router::new().route("/a.sh", axum::routing::get(|| async { "echo downloaded" }));
    tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
    let result = rig.run(Switch::Shell, &rig.task(19, &format!("http://{address}/a.sh"))).await;
    assert!(result.success && result.message.contains("downloaded"), "{result:?}");
    for (params, wanted) in [
        (format!("http://{address}/none.sh"), "HTTP 404"),
        ("http://127.0.0.2:1/a.sh".to_owned(), "[outbound] allowed_hosts"),
        ("ftp://127.0.0.1/a.sh".to_owned(), "not by ftp"),
    ] {
        let result = rig.run(Switch::Shell, &rig.task(20, &params)).await;
        assert!(!result.success && result.message.contains(wanted), "{params}: {result:?}");
    }
}

#[tokio::test]
async fn no_parameters_are_refused_and_a_missing_interpreter_is_named() {
    let rig = Rig::new();
    let mut ctx = rig.task(21, "");
    ctx.job_params = None;
    let result = rig.run(Switch::Shell, &ctx).await;
    assert_eq!(result.message, "[SYSTEM] ScriptParams is null, please check jobParam configuration.");
    assert!(!result.success && !result.retryable);
    let has_powershell = |name: &str| {
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
    };
    let result = rig.run(Switch::PowerShell, &rig.task(22, "Write-Output 'hello'")).await;
    if has_powershell("pwsh") || has_powershell("powershell") {
        assert!(result.success && result.message.contains("hello"), "{result:?}");
    } else {
        assert!(
            !result.success && result.message.contains("neither `pwsh` nor `powershell` is installed"),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn secrets_of_a_script_are_not_in_the_log() {
    let rig = Rig::new();
    let ctx = rig.task(23, "export API_KEY=s3cret\ntest \"$API_KEY\" = s3cret && echo same");
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(result.success && result.message.contains("same"), "{result:?}");
    let log = rig.log(&ctx);
    assert!(log.contains("export API_KEY=***"), "{log}");
    // What a script compares or prints by itself is its own affair; the assignment is not shown.
    assert!(!log.contains("API_KEY=s3cret"), "{log}");
}
