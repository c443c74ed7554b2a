//! The cards as a table that fits a terminal: one line a card, what stands against it behind the state.

use testrig_host::accelerators::{Availability, CardView, HealthClass, View, bytes_in_words, in_words};

/// The table, with a line in front that says how the cards were seen.
pub(super) fn table(view: &View, now_ms: i64) -> String {
    let mut text = if view.cards.is_empty() {
        "no accelerators".to_owned()
    } else {
        format!("{} of {} accelerators free", view.free(), view.cards.len())
    };
    if !view.through.is_empty() {
        text.push_str(&format!(", seen through {}", view.through));
    }
    text.push('\n');
    if !view.cards.is_empty() {
        text.push('\n');
        text.push_str(&rows(view, now_ms));
    }
    for note in &view.notes {
        text.push_str(&format!("\nnote: {note}\n"));
    }
    text
}

fn rows(view: &View, now_ms: i64) -> String {
    let head = ["#", "card", "memory", "use", "temp", "power", "health", "state"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for card in &view.cards {
        rows.push(row(card, now_ms));
        // What runs on a leased card is worth a line of its own; on others it stands in the state.
        if card.lease.is_some() {
            for process in card.state.processes.iter().flatten() {
                let mut line = vec![String::new(); 7];
                line.push(format!("  {}", in_words(process)));
                rows.push(line);
            }
        }
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(card: &CardView, now_ms: i64) -> Vec<String> {
    let (known, state) = (&card.card, &card.state);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let memory = match state.memory_used_bytes {
        Some(used) => format!("{} / {}", bytes_in_words(used), bytes_in_words(known.memory_bytes)),
        None => bytes_in_words(known.memory_bytes),
    };
    let health = match state.health.class {
        HealthClass::Ok => "ok".to_owned(),
        class => format!("{class}: {}", state.health.detail),
    };
    vec![
        known.index.to_string(),
        known.kind.clone(),
        memory,
        or_dash(state.utilization_percent.map(|percent| format!("{percent:.0} %"))),
        or_dash(state.temperature_c.map(|degrees| format!("{degrees} C"))),
        or_dash(state.power_w.map(|watts| format!("{watts:.0} W"))),
        health,
        availability(card, now_ms),
    ]
}

fn availability(card: &CardView, now_ms: i64) -> String {
    match (&card.availability, &card.lease) {
        (Availability::Free, _) => "free".to_owned(),
        (Availability::Leased(_), Some(lease)) => {
            format!("leased to {} for {}", lease.words, duration(now_ms - lease.since_ms))
        }
        (Availability::Leased(words), None) => format!("leased to {words}"),
        (Availability::Returning(why), _) => format!("coming back: {why}"),
        (Availability::Busy(why), _) => format!("busy: {why}"),
        (Availability::Unusable(why), _) => format!("not given away: {why}"),
    }
}

fn duration(ms: i64) -> String {
    let seconds = (ms / 1000).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use testrig_host::accelerators::{Accelerator, CardProcess, CardState, Health, LeaseView, Vendor};

    use super::*;

    fn card(index: u32, availability: Availability) -> CardView {
        CardView {
            card: Accelerator::new(index, format!("GPU-{index}"), Vendor::Nvidia, "NVIDIA H200", 150_754_820_096),
            state: CardState {
                memory_used_bytes: Some(u64::from(index) << 30),
                utilization_percent: Some(87.0),
                temperature_c: Some(61),
                power_w: Some(540.4),
                processes: Some(Vec::new()),
                ..CardState::default()
            },
            availability,
            lease: None,
        }
    }

    #[test]
    fn a_person_sees_who_has_each_card_and_why_one_is_not_free() {
        let mut leased = card(1, Availability::Leased("instance 5123, task T1".into()));
        leased.lease =
            Some(LeaseView { run: "testrig-5123-1".into(), words: "instance 5123, task T1".into(), since_ms: 0 });
        leased.state.processes = Some(vec![CardProcess {
            pid: 4711,
            name: Some("python3".into()),
            memory_bytes: Some(98 << 30),
            container: Some("llm-test-T1".into()),
            run: Some("testrig-5123-1".into()),
            ..CardProcess::default()
        }]);
        let mut sick = card(3, Availability::Unusable("faulty: XID 79".into()));
        sick.state =
            CardState { health: Health { class: HealthClass::Fault, detail: "XID 79".into() }, ..CardState::default() };
        let view = View {
            provider: "nvml".into(),
            through: "NVML, driver 550.54.14".into(),
            cards: vec![
                card(0, Availability::Free),
                leased,
                card(2, Availability::Busy("in use by python (pid 7) in container notebook".into())),
                sick,
            ],
            notes: vec!["driver 550.54.14 is older than the library".into()],
        };
        let expected = "\
1 of 4 accelerators free, seen through NVML, driver 550.54.14

#  card         memory               use   temp  power  health         state
0  NVIDIA H200  0 MiB / 140.4 GiB    87 %  61 C  540 W  ok             free
1  NVIDIA H200  1.0 GiB / 140.4 GiB  87 %  61 C  540 W  ok             leased to instance 5123, task T1 for 50 min
                                                                         python3 (pid 4711) in container llm-test-T1 of run testrig-5123-1, 98.0 GiB
2  NVIDIA H200  2.0 GiB / 140.4 GiB  87 %  61 C  540 W  ok             busy: in use by python (pid 7) in container notebook
3  NVIDIA H200  140.4 GiB            -     -     -      fault: XID 79  not given away: faulty: XID 79

note: driver 550.54.14 is older than the library
";
        assert_eq!(table(&view, 3_000_000), expected, "\n{}", table(&view, 3_000_000));
        assert_eq!(table(&View::default(), 0), "no accelerators\n");
    }
}
