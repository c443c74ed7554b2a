//! What the tests of this crate share.

use std::{path::Path, sync::Arc};

use crate::{Environment, Root};

/// An environment whose only allowed root is this directory.
pub(crate) fn environment(dir: &Path) -> Environment {
    Environment {
        state_dir: dir.join("state"),
        shim: dir.join("no-shim"),
        allowed_roots: vec![Root { path: dir.to_owned(), read_only: false }],
        datasets: None,
        docker_endpoint: None,
        allowed_images: None,
        allow_privileged: false,
        allowed_programs: None,
        allowed_hosts: None,
        databases: Default::default(),
        object_stores: Default::default(),
        mail: Default::default(),
        people: Default::default(),
        secrets: Default::default(),
        template_dir: None,
        http: client(),
        platform_base_url: None,
        accelerators: Arc::new(testrig_host::accelerators::NoAccelerators),
    }
}

fn client() -> reqwest::Client {
    static TLS: std::sync::Once = std::sync::Once::new();
    TLS.call_once(|| {
        // An error means that another test was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().expect("client")
}
