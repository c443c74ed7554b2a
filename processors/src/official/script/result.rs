//! The result text of a script: Java's form, with how it ended in front where it failed.

use powerjob_worker::{ProcessResult, StopReason};
use testrig_host::ExitStatus;

use super::output::Text;

/// Characters of each stream that stand in the result; the worker allows 8096 in all by default.
const EACH: usize = 3500;

/// How a script came to its end.
#[derive(Debug)]
pub(super) enum Outcome {
    /// By itself, or by somebody who is not the agent.
    Ended(ExitStatus),
    /// The agent had to end it.
    Cut(StopReason, ExitStatus),
}

/// A reason in words.
pub(super) fn why(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Stopped => "stopped by the server",
        StopReason::Cancelled => "ended by the agent's operator",
        StopReason::TimedOut => "the time limit of the instance (instanceTimeoutMS) is over",
    }
}

impl Outcome {
    /// Success is exit code 0 of a script that ended by itself, nothing else.
    pub(super) fn result(&self, [out, err]: &[Text; 2]) -> ProcessResult {
        let said = format!("[INPUT]: {};[ERROR]: {}", last(out), last(err));
        match self {
            Self::Ended(exit) if exit.success() => ProcessResult::success(said),
            Self::Ended(exit) => ProcessResult::failed(format!("{exit}; {said}")),
            Self::Cut(reason, exit) => {
                let text = format!("{}, the script was ended ({exit}); {said}", why(*reason));
                match reason {
                    StopReason::Stopped | StopReason::Cancelled => ProcessResult::rejected(text),
                    StopReason::TimedOut => ProcessResult::failed(text),
                }
            }
        }
    }
}

/// The last lines that fit.
fn last(text: &Text) -> String {
    let mut begin = text.end.len();
    let mut room = EACH;
    for line in text.end.split_inclusive('\n').rev() {
        let length = line.chars().count();
        if length > room {
            break;
        }
        room -= length;
        begin -= line.len();
    }
    if begin == text.end.len() && !text.end.is_empty() {
        // One line longer than the room: its end.
        begin = text.end.char_indices().rev().nth(EACH - 1).map_or(0, |(at, _)| at);
    }
    let cut = text.cut || begin > 0;
    let mark = if cut { "(what stood before is in the log)\n" } else { "" };
    format!("{mark}{}", &text.end[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(end: &str) -> Text {
        Text { end: end.to_owned(), cut: false }
    }

    fn exit(code: Option<i32>, signal: Option<i32>) -> ExitStatus {
        ExitStatus { code, signal, ..ExitStatus::default() }
    }

    #[test]
    fn a_result_has_javas_form_and_how_it_failed_in_front() {
        let said = [text("a\nb\n"), text("")];
        let result = Outcome::Ended(exit(Some(0), None)).result(&said);
        assert_eq!(result, ProcessResult::success("[INPUT]: a\nb\n;[ERROR]: "));
        let result = Outcome::Ended(exit(Some(3), None)).result(&[text(""), text("x\n")]);
        assert_eq!(result, ProcessResult::failed("exit code 3; [INPUT]: ;[ERROR]: x\n"));
        let result = Outcome::Ended(exit(None, Some(9))).result(&said);
        assert!(!result.success && result.message.starts_with("killed by signal 9 (SIGKILL); "), "{result:?}");
    }

    #[test]
    fn a_script_that_was_ended_failed_even_with_exit_code_0() {
        for reason in [StopReason::Stopped, StopReason::Cancelled, StopReason::TimedOut] {
            let result = Outcome::Cut(reason, exit(Some(0), None)).result(&[text(""), text("")]);
            assert!(!result.success && result.message.contains("ended (exit code 0)"), "{result:?}");
        }
    }

    #[test]
    fn of_a_long_output_the_last_lines_stand_in_the_result() {
        let long: String = (0..2000).map(|i| format!("line {i}\n")).collect();
        let shown = last(&text(&long));
        assert!(shown.starts_with("(what stood before is in the log)\nline 1") && shown.ends_with("line 1999\n"));
        assert!(shown.chars().count() < EACH + 50);
        assert_eq!(last(&text(&"x".repeat(9000))).matches('x').count(), EACH);
        assert_eq!(last(&Text { end: "end\n".into(), cut: true }), "(what stood before is in the log)\nend\n");
    }
}
