//! Whose a process is: its name, its container, its run.

use std::{collections::HashMap, fs, time::Duration};

use parking_lot::Mutex;

use super::card::{CardProcess, Observation};
use crate::{ENV_BOUNDARY, LABEL_BOUNDARY, docker::Docker};

/// How long the engine may take to tell a container's name.
const NAME_LIMIT: Duration = Duration::from_secs(3);

/// Fills in what `/proc` tells of the processes on the cards. What cannot be read stays as the driver said it.
pub(super) fn from_proc(seen: &mut Observation) {
    for card in &mut seen.cards {
        for process in card.state.processes.iter_mut().flatten() {
            let proc = format!("/proc/{}", process.pid);
            // The driver's tools cut names and leave letters out.
            if let Some(name) = name(&proc) {
                process.name = Some(name);
            }
            process.container_id =
                fs::read_to_string(format!("{proc}/cgroup")).ok().and_then(|text| container_of(&text));
            process.container = process.container_id.as_ref().map(|id| id[..12].to_owned());
            process.run = fs::read(format!("{proc}/environ")).ok().and_then(|environ| variable(&environ, ENV_BOUNDARY));
        }
    }
}

fn name(proc: &str) -> Option<String> {
    let name = fs::read_to_string(format!("{proc}/comm")).ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}

/// The 64 hexadecimal digits in the path of a container's control group, whatever surrounds them.
fn container_of(cgroup: &str) -> Option<String> {
    cgroup
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(str::to_owned)
}

fn variable(environ: &[u8], name: &str) -> Option<String> {
    let entries = environ.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// What the engine says of a container.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    run: Option<String>,
}

/// Names of containers by id, asked once each.
#[derive(Debug, Default)]
pub(super) struct ContainerNames {
    known: Mutex<HashMap<String, Known>>,
}

impl ContainerNames {
    /// Puts names in the place of container ids, and the run where the environment of a process could not be read. An engine
    /// that does not answer leaves the short ids.
    pub(super) async fn fill(&self, docker: &Docker, seen: &mut Observation) {
        for process in seen.cards.iter_mut().flat_map(|card| card.state.processes.iter_mut().flatten()) {
            let Some(id) = process.container_id.clone() else { continue };
            let known = self.known.lock().get(&id).cloned();
            let known = match known {
                Some(known) => known,
                None => match tokio::time::timeout(NAME_LIMIT, docker.inspect(&id)).await {
                    Ok(Ok(info)) => {
                        let run = info.label(LABEL_BOUNDARY).map(str::to_owned);
                        let known = Known { name: info.name, run };
                        self.known.lock().insert(id, known.clone());
                        known
                    }
                    // Not asked again for every process.
                    Ok(Err(error)) if error.is_unavailable() => return,
                    Err(_) => return,
                    Ok(Err(_)) => continue,
                },
            };
            note(process, known);
        }
    }
}

fn note(process: &mut CardProcess, known: Known) {
    process.container = Some(known.name);
    process.run = process.run.take().or(known.run);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_the_cgroups_of_both_versions() {
        let id = "0123456789abcdef".repeat(4);
        for text in [
            format!("12:devices:/docker/{id}\n11:cpu:/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/kubepods.slice/pod1/cri-containerd-{id}.scope\n"),
        ] {
            assert_eq!(container_of(&text).as_deref(), Some(id.as_str()), "{text}");
        }
        assert_eq!(container_of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }

    #[test]
    fn a_process_of_a_run_is_known_by_its_marker() {
        let mut sleep =
            std::process::Command::new("sleep").arg("60").env(ENV_BOUNDARY, "testrig-7-1").spawn().expect("sleep");
        let mut seen = Observation::default();
        seen.cards.push(super::super::card::Observed {
            card: super::super::card::Accelerator::new(0, "x", super::super::card::Vendor::Other, "x", 0),
            state: super::super::card::CardState {
                processes: Some(vec![
                    CardProcess { pid: sleep.id(), name: Some("slee".into()), ..CardProcess::default() },
                    CardProcess { pid: u32::MAX, name: Some("gone".into()), ..CardProcess::default() },
                ]),
                ..Default::default()
            },
        });
        // Between fork and exec it still has the parent's name.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            from_proc(&mut seen);
            let process = &seen.cards[0].state.processes.as_ref().expect("known")[0];
            if process.name.as_deref() == Some("sleep") && process.run.is_some() || std::time::Instant::now() > deadline
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = sleep.kill();
        let _ = sleep.wait();
        let processes = seen.cards[0].state.processes.as_ref().expect("known");
        assert_eq!((processes[0].name.as_deref(), processes[0].run.as_deref()), (Some("sleep"), Some("testrig-7-1")));
        assert_eq!((processes[1].name.as_deref(), processes[1].run.as_deref()), (Some("gone"), None));
    }
}
