//! What a Java server would have thrown: the answer's `message` is `<class>: <text>`.

/// An exception as it reaches a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thrown(pub(crate) String);

impl Thrown {
    pub(crate) fn illegal(text: impl std::fmt::Display) -> Self {
        Self(format!("IllegalArgumentException: {text}"))
    }

    pub(crate) fn powerjob(text: impl std::fmt::Display) -> Self {
        Self(format!("PowerJobException: {text}"))
    }

    pub(crate) fn null_pointer(text: impl std::fmt::Display) -> Self {
        Self(format!("NullPointerException: {text}"))
    }

    pub(crate) fn unreadable(text: impl std::fmt::Display) -> Self {
        Self(format!("HttpMessageNotReadableException: JSON parse error: {text}"))
    }

    /// What a real server would serve and this one does not.
    pub(crate) fn not_served(text: impl std::fmt::Display) -> Self {
        Self(format!(
            "PowerJobException: the stand-in server does not serve {text}; use a real PowerJob server for that"
        ))
    }
}
