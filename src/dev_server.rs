//! `testrig dev-server`: the stand-in PowerJob server in the foreground.

use std::process::ExitCode;

use testrig_devserver::{DevServer, DevServerConfig};

use crate::cli::DevServerArgs;

/// Runs it until Ctrl-C or SIGTERM.
pub(crate) async fn command(args: DevServerArgs) -> ExitCode {
    let mut config = DevServerConfig { web: args.listen, transport: args.transport, ..DevServerConfig::default() };
    for app in &args.apps {
        config = config.app(app, &args.app_password);
    }
    let server = match DevServer::start(config).await {
        Ok(server) => server,
        Err(e) => return crate::fail(&e.to_string()),
    };
    println!("listening on http://{} (transport {})", server.web(), server.transport());
    println!(
        "start an agent with: testrig agent -a {} -s {}",
        args.apps.first().map_or("APP", String::as_str),
        server.web()
    );
    crate::agent::signals::stop_requested().await;
    server.stop().await;
    ExitCode::SUCCESS
}
