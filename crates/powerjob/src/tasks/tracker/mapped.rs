//! `map()`: a task leads to more tasks.

use std::collections::HashSet;

use rusqlite::Result;

use super::{Answer, Output, Tracker, bugs::bug};
use crate::{
    core::Now,
    tasks::{
        api::{LAST_TASK, MapTask, PeerError, ROOT_TASK},
        table::{NewTask, Table},
    },
};

/// Longest task id and task name, bytes. An id grows by at least two characters with every level of mapping.
const LONGEST_NAME: usize = 250;

impl Tracker {
    /// Stores all of the tasks or none. Ids that are there already are left as they are: a message that came twice, or
    /// a mapping task that was executed again.
    pub(super) fn map(&mut self, table: &Table<'_>, now: Now, map: &MapTask, out: &mut Output) -> Result<Answer> {
        if let Err(why) = check(map) {
            return Ok(Err(PeerError::Refused(why)));
        }
        let sub = self.sub_of(map.sub_instance_id);
        let twice = bug!(self, MapCountedTwice);
        let Some(run) = self.runs.get_mut(&sub) else { return Ok(Ok(())) };
        if run.state.last {
            // An execution that lives on although its task has ended.
            return Ok(if table.has_all(run.key, &map.sub_tasks)? {
                Ok(())
            } else {
                Err(PeerError::Refused(format!(
                    "task {} is not taken: all tasks of instance {} have ended and its last one has begun",
                    map.sub_tasks.first().map_or("", |task| task.task_id.as_str()),
                    map.instance_id
                )))
            });
        }
        let name = match map.task_name.as_str() {
            reserved @ (ROOT_TASK | LAST_TASK) => format!("X-{reserved}"),
            other => other.to_owned(),
        };
        let before = run.total;
        // All or none, so this is asked before the first one is stored.
        for task in &map.sub_tasks {
            let known = table.find(run.key, &task.task_id)?;
            if known.is_some_and(|row| row.content.as_deref() != Some(task.content.as_slice())) {
                return Ok(Err(PeerError::Refused(format!(
                    "task {} is there already with another body: an earlier execution of the task that maps made it, so \
                     these would be lost; let that task map the same bodies in the same order whenever it is executed",
                    task.task_id
                ))));
            }
        }
        for task in &map.sub_tasks {
            let new = NewTask { id: &task.task_id, name: &name, content: Some(&task.content), address: None };
            if table.add(run.key, &new, now.wall_ms)? || twice {
                run.total += 1;
                run.free += 1;
            }
        }
        let added = run.total - before;
        if before <= 1 && added > 0 && self.spec.firings.is_none() {
            out.info(format!("the first {added} tasks named `{name}` were mapped"));
        }
        Ok(Ok(()))
    }
}

fn check(map: &MapTask) -> std::result::Result<(), String> {
    if map.task_name.len() > LONGEST_NAME {
        return Err(format!(
            "the name of the mapped tasks has {} bytes; up to {LONGEST_NAME} are accepted",
            map.task_name.len()
        ));
    }
    let mut ids = HashSet::with_capacity(map.sub_tasks.len());
    for task in &map.sub_tasks {
        let id = task.task_id.as_str();
        if id.is_empty() || id.len() > LONGEST_NAME {
            return Err(format!(
                "a mapped task has an id of {} bytes; 1 to {LONGEST_NAME} are accepted (every level of mapping makes it \
                 longer)",
                id.len()
            ));
        }
        if !ids.insert(id) {
            return Err(format!("two of the mapped tasks have the id {id}; each needs its own"));
        }
    }
    Ok(())
}
