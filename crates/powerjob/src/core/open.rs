//! The open instances, with an index of what is asked for after every event: whose time has come, who waits for a slot, how
//! many run. What an event costs does not grow with the number of open instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::{
    api::Stage,
    instance::{Instance, Mono},
};

/// What the index knows of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// When it next wants to be looked at.
    timer: Option<Mono>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Its order of arrival, while it waits for a slot.
    queued: Option<u64>,
    slot: bool,
    heavy: bool,
}

impl Place {
    fn of(instance: &Instance) -> Self {
        let queued = (instance.record.stage == Stage::Queued).then_some(instance.record.seq);
        Self { queued, slot: instance.holds_slot(), heavy: instance.heavy }
    }
}

#[derive(Clone, Debug)]
struct Kept {
    instance: Instance,
    /// As of the last [`Open::index`]; out of date while the id is touched.
    entry: Entry,
}

/// The open instances by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    by_id: BTreeMap<i64, Kept>,
    timers: BTreeSet<(Mono, i64)>,
    queue: BTreeSet<(u64, i64)>,
    slots: usize,
    heavy: usize,
    /// Given out for changing since they were indexed.
    touched: BTreeSet<i64>,
    /// Indexed, and not written yet.
    changed: BTreeSet<i64>,
    /// What [`Open::undo`] puts back: instances as they were at [`Open::begin`].
    before: Option<BTreeMap<i64, Option<Instance>>>,
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn contains_key(&self, id: &i64) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Instance> {
        self.by_id.values().map(|kept| &kept.instance)
    }

    pub(super) fn get(&self, id: &i64) -> Option<&Instance> {
        self.by_id.get(id).map(|kept| &kept.instance)
    }

    pub(super) fn get_mut(&mut self, id: &i64) -> Option<&mut Instance> {
        let kept = self.by_id.get_mut(id)?;
        if let Some(before) = &mut self.before {
            before.entry(*id).or_insert_with(|| Some(kept.instance.clone()));
        }
        self.touched.insert(*id);
        Some(&mut kept.instance)
    }

    /// All of them, for changing: costs as much as there are.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        for (id, kept) in &self.by_id {
            self.touched.insert(*id);
            if let Some(before) = &mut self.before {
                before.entry(*id).or_insert_with(|| Some(kept.instance.clone()));
            }
        }
        self.by_id.values_mut().map(|kept| &mut kept.instance)
    }

    pub(super) fn insert(&mut self, id: i64, instance: Instance) {
        let old = self.remove(&id);
        if let Some(before) = &mut self.before {
            before.entry(id).or_insert(old);
        }
        self.touched.insert(id);
        self.by_id.insert(id, Kept { instance, entry: Entry::default() });
    }

    pub(super) fn remove(&mut self, id: &i64) -> Option<Instance> {
        let kept = self.by_id.remove(id)?;
        self.unindex(*id, kept.entry);
        self.touched.remove(id);
        self.changed.remove(id);
        if let Some(before) = &mut self.before {
            before.entry(*id).or_insert_with(|| Some(kept.instance.clone()));
        }
        Some(kept.instance)
    }

    /// Instances that hold a slot.
    pub(super) fn slots_used(&self) -> usize {
        self.corrected(self.slots, |place| place.slot)
    }

    /// Instances with tasks.
    pub(super) fn heavy(&self) -> usize {
        self.corrected(self.heavy, |place| place.heavy)
    }

    /// Instances that wait for a slot.
    pub(super) fn queued(&self) -> usize {
        self.corrected(self.queue.len(), |place| place.queued.is_some())
    }

    /// How many wait that arrived no later than this one, itself included.
    pub(super) fn queued_up_to(&self, seq: u64) -> usize {
        let known = self.queue.range(..=(seq, i64::MAX)).count();
        self.corrected(known, |place| place.queued.is_some_and(|at| at <= seq))
    }

    /// Who waits longest.
    pub(super) fn first_queued(&self) -> Option<i64> {
        let indexed = self.queue.iter().find(|(_, id)| !self.touched.contains(id)).copied();
        let touched = self.touched.iter().filter_map(|id| Some((Place::of(self.get(id)?).queued?, *id)));
        touched.chain(indexed).min().map(|(_, id)| id)
    }

    /// The number that the index has, with what has changed since.
    fn corrected(&self, indexed: usize, counts: impl Fn(Place) -> bool) -> usize {
        let kept = self.touched.iter().filter_map(|id| self.by_id.get(id));
        kept.fold(indexed, |sum, kept| {
            sum + usize::from(counts(Place::of(&kept.instance))) - usize::from(counts(kept.entry.place))
        })
    }

    /// What changed since the last call and is to be indexed.
    pub(super) fn take_touched(&mut self) -> BTreeSet<i64> {
        mem::take(&mut self.touched)
    }

    /// Every timer may have changed with something that is not in the instances.
    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.by_id.keys());
    }

    /// Brings the index up to date for one instance.
    pub(super) fn index(&mut self, id: i64, timer: Option<Mono>) {
        let Some(kept) = self.by_id.get_mut(&id) else { return };
        let entry = Entry { timer, place: Place::of(&kept.instance) };
        if kept.instance.dirty {
            self.changed.insert(id);
        }
        let old = mem::replace(&mut kept.entry, entry);
        if old == entry {
            return;
        }
        self.unindex(id, old);
        self.timers.extend(timer.map(|at| (at, id)));
        self.queue.extend(entry.place.queued.map(|seq| (seq, id)));
        self.slots += usize::from(entry.place.slot);
        self.heavy += usize::from(entry.place.heavy);
    }

    fn unindex(&mut self, id: i64, entry: Entry) {
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        if let Some(seq) = entry.place.queued {
            self.queue.remove(&(seq, id));
        }
        self.slots -= usize::from(entry.place.slot);
        self.heavy -= usize::from(entry.place.heavy);
    }

    /// Whose timer is due, in order of the ids. Only what is indexed.
    pub(super) fn due(&self, now: Mono) -> BTreeSet<i64> {
        self.timers.range(..=(now, i64::MAX)).map(|(_, id)| *id).collect()
    }

    /// The earliest timer. Only what is indexed.
    pub(super) fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The instances that may have to be written, in order of their ids. Only what is indexed.
    pub(super) fn take_changed(&mut self) -> BTreeSet<i64> {
        mem::take(&mut self.changed)
    }

    /// From here on all changes can be undone.
    pub(super) fn begin(&mut self) {
        self.before = Some(BTreeMap::new());
    }

    /// The changes since [`Open::begin`] stay.
    pub(super) fn keep(&mut self) {
        self.before = None;
    }

    /// Takes the changes since [`Open::begin`] back.
    pub(super) fn undo(&mut self) {
        for (id, instance) in self.before.take().into_iter().flatten() {
            match instance {
                Some(instance) => self.insert(id, instance),
                None => drop(self.remove(&id)),
            }
        }
    }
}
