use super::*;
use crate::accelerators::card::Slice;

fn gpu(node: u32) -> Accelerator {
    let mut card = Accelerator::new(node, format!("GPU-{node}"), Vendor::Nvidia, "NVIDIA H200", 1 << 37);
    card.node = Some(node);
    card
}

fn npu(node: u32, logic: u32) -> Accelerator {
    let mut card = Accelerator::new(logic, format!("VDIE-{node}"), Vendor::Ascend, "910B3", 1 << 36);
    (card.node, card.logic_id) = (Some(node), Some(logic));
    card
}

fn engine(runtimes: &[&str]) -> EngineInfo {
    EngineInfo { runtimes: runtimes.iter().map(|name| (*name).to_owned()).collect(), ..EngineInfo::default() }
}

/// A host with these files, and a directory of programs.
fn host(files: &[&str], programs: &[&str]) -> (tempfile::TempDir, HostFiles) {
    let dir = tempfile::tempdir().expect("dir");
    for file in files.iter().map(|file| format!("root{file}")).chain(programs.iter().map(|name| format!("bin/{name}")))
    {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        std::fs::write(path, "").expect("written");
    }
    let files = HostFiles { root: dir.path().join("root"), path: vec![dir.path().join("bin")] };
    (dir, files)
}

fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn nodes(passing: &Passing) -> Vec<&str> {
    passing.devices.iter().map(|node| node.host.as_str()).collect()
}

#[test]
fn without_a_lease_a_container_is_told_that_there_is_no_card() {
    let (_dir, host) = host(&["/dev/nvidia0"], &["nvidia-container-runtime-hook"]);
    let passing = for_container(&[], Some("nvidia"), &engine(&["nvidia"]), &host).expect("nothing to pass");
    assert_eq!(value(&passing.env, "NVIDIA_VISIBLE_DEVICES"), Some("void"));
    assert_eq!(value(&passing.env, "ASCEND_VISIBLE_DEVICES"), Some("void"));
    assert_eq!((passing.way.as_str(), passing.requests.len(), passing.devices.len()), ("none", 0, 0));
}

#[test]
fn cdi_comes_first_where_the_engine_knows_every_card_by_its_uuid() {
    let (_dir, host) = host(&["/dev/nvidia1"], &["nvidia-container-runtime-hook"]);
    let mut engine = engine(&["runc", "nvidia"]);
    engine.cdi_devices = vec!["nvidia.com/gpu=GPU-1".into(), "nvidia.com/gpu=GPU-3".into()];
    let passing = for_container(&[gpu(1), gpu(3)], None, &engine, &host).expect("known");
    assert_eq!(passing.way, "cdi");
    let request = DeviceRequest {
        driver: "cdi".into(),
        ids: vec!["nvidia.com/gpu=GPU-1".into(), "nvidia.com/gpu=GPU-3".into()],
        capabilities: Vec::new(),
    };
    assert_eq!(passing.requests, [request]);
    assert_eq!(value(&passing.env, "NVIDIA_VISIBLE_DEVICES"), None, "the CDI specification sets it");
    assert_eq!(value(&passing.env, "CUDA_VISIBLE_DEVICES"), None, "numbers inside begin at 0");
    let passing = for_container(&[gpu(1), gpu(2)], None, &engine, &host).expect("by the hook");
    assert_eq!(passing.way, "device request", "one card is not known");
}

#[test]
fn the_hook_gets_explicit_ids_and_the_nodes_stand_beside_it() {
    let (_dir, host) = host(&["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"], &["nvidia-container-runtime-hook"]);
    let passing = for_container(&[gpu(1)], None, &engine(&["runc"]), &host).expect("by the hook");
    assert_eq!(passing.requests[0].ids, ["GPU-1"]);
    assert_eq!(passing.requests[0].capabilities, ["gpu", "compute", "utility"]);
    assert_eq!(nodes(&passing), ["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"]);
    assert_eq!(value(&passing.env, "CUDA_DEVICE_ORDER"), Some("PCI_BUS_ID"));
}

#[test]
fn the_runtime_is_told_by_its_variable() {
    let (_dir, host) = host(&[], &[]);
    for asked in [None, Some("nvidia")] {
        let passing =
            for_container(&[gpu(1), gpu(0)], asked, &engine(&["runc", "nvidia"]), &host).expect("by the runtime");
        assert_eq!((passing.way.as_str(), passing.runtime.as_deref()), ("runtime nvidia", Some("nvidia")));
        assert_eq!(value(&passing.env, "NVIDIA_VISIBLE_DEVICES"), Some("GPU-1,GPU-0"));
        assert_eq!(value(&passing.env, "NVIDIA_DRIVER_CAPABILITIES"), Some("compute,utility"));
    }
    let error = for_container(&[gpu(1)], None, &engine(&["runc"]), &host).expect_err("no way");
    for part in ["nvidia.com/gpu=GPU-1", "nvidia-ctk runtime configure", "nvidia-container-runtime-hook"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_mig_slice_comes_with_its_capability_nodes() {
    let (dir, host) = host(
        &["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"],
        &["nvidia-container-runtime-hook"],
    );
    let minors = dir.path().join("root/proc/driver/nvidia-caps");
    std::fs::create_dir_all(&minors).expect("made");
    std::fs::write(
        minors.join("mig-minors"),
        "config 1\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu0/gi2/access 21\n",
    )
    .expect("written");
    let mut slice = gpu(0);
    slice.uuid = "MIG-1".into();
    slice.slice_of = Some(Slice { gpu: "GPU-0".into(), gpu_instance: 1, compute_instance: 0 });
    let passing = for_container(&[slice], None, &engine(&[]), &host).expect("by the hook");
    assert_eq!(passing.requests[0].ids, ["MIG-1"]);
    assert_eq!(nodes(&passing), ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"]);
}

#[test]
fn ascend_cards_are_passed_by_hand_under_the_host_s_numbers() {
    let files =
        ["/dev/davinci4", "/dev/davinci_manager", "/dev/hisi_hdc", "/usr/local/dcmi/x", "/etc/ascend_install.info"];
    let (_dir, host) = host(&files, &[]);
    let mut engine = engine(&["ascend", "runc"]);
    engine.default_runtime = Some("ascend".into());
    let passing = for_container(&[npu(5, 1), npu(4, 0)], None, &engine, &host).expect("by hand");
    assert_eq!((passing.way.as_str(), passing.runtime.as_deref()), ("devices", Some("runc")));
    assert_eq!(nodes(&passing), ["/dev/davinci4", "/dev/davinci5", "/dev/davinci_manager", "/dev/hisi_hdc"]);
    assert_eq!(value(&passing.env, "ASCEND_VISIBLE_DEVICES"), Some("void"));
    let mounts: Vec<&str> = passing.mounts.iter().map(|mount| mount.container.as_str()).collect();
    assert_eq!(mounts, ["/usr/local/dcmi", "/etc/ascend_install.info"], "only what the host has");
    assert!(passing.mounts.iter().all(|mount| mount.read_only));
    let by_runtime = for_container(&[npu(5, 1), npu(4, 0)], Some("ascend"), &engine, &host).expect("as asked");
    assert_eq!(value(&by_runtime.env, "ASCEND_VISIBLE_DEVICES"), Some("4,5"));
    assert_eq!(by_runtime.devices, []);
    let mut unknown = npu(1, 1);
    unknown.node = None;
    assert!(for_container(&[unknown], None, &engine, &host).expect_err("not known").contains("device node of card 1"));
}

#[test]
fn declared_cards_bring_their_nodes_and_are_counted_from_0_inside() {
    let (_dir, host) = host(&[], &[]);
    let mut cards =
        vec![Accelerator::new(2, "a", Vendor::Other, "stub", 0), Accelerator::new(5, "b", Vendor::Other, "stub", 0)];
    cards[0].devices = vec![DeviceNode::parse("/dev/zero:/dev/accel2")];
    for card in &mut cards {
        card.visible_env = Some("STUB_VISIBLE_DEVICES".into());
    }
    let passing = for_container(&cards, None, &engine(&[]), &host).expect("by nodes");
    assert_eq!(passing.devices[0].container, "/dev/accel2");
    assert_eq!(value(&passing.env, "STUB_VISIBLE_DEVICES"), Some("0,1"));
    assert_eq!(value(&passing.env, "NVIDIA_VISIBLE_DEVICES"), Some("void"));
}

#[test]
fn a_process_sees_its_cards_and_one_without_a_lease_sees_none() {
    let env = for_process(&[gpu(3), gpu(1)], true);
    assert_eq!(value(&env, "CUDA_VISIBLE_DEVICES"), Some("GPU-3,GPU-1"));
    assert_eq!(value(&env, "CUDA_DEVICE_ORDER"), Some("PCI_BUS_ID"));
    assert_eq!(value(&env, "ASCEND_RT_VISIBLE_DEVICES"), Some(""));
    let env = for_process(&[npu(9, 3), npu(8, 1)], false);
    assert_eq!(value(&env, "ASCEND_RT_VISIBLE_DEVICES"), Some("1,3"), "logic ids, ascending");
    assert_eq!(value(&env, "CUDA_VISIBLE_DEVICES"), None);
    let env = for_process(&[], true);
    assert_eq!((value(&env, "CUDA_VISIBLE_DEVICES"), value(&env, "ASCEND_RT_VISIBLE_DEVICES")), (Some(""), Some("")));
    assert_eq!(for_process(&[], false), []);
}

#[test]
fn refusals_that_do_not_speak_for_themselves_are_explained() {
    let text = "could not select device driver \"nvidia\" with capabilities: [[gpu]]";
    assert!(explain(text).is_some_and(|meaning| meaning.contains("container toolkit is not installed")));
    assert_eq!(explain("port is already allocated"), None);
}
