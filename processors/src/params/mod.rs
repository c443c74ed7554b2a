//! Job parameters: from the texts of a dispatch to checked, typed values.
//!
//! A processor declares its parameters in a [`Table`]. [`read`] merges the built-in defaults, `jobParams` and
//! `instanceParams` (in a workflow: the workflow context) into [`Params`], collecting every problem with its path.
//! The processor builds its plan from the getters, adds problems of its own with [`Params::refuse`], and calls
//! [`Params::check`] once before anything starts. The same table gives the JSON Schema ([`schema`]).

mod flatten;
mod kind;
pub mod mask;
mod problem;
mod read;
mod schema;
mod source;
mod table;
mod values;

pub(crate) use kind::shown_text;
pub use problem::{Problem, Problems, nearest};
pub use read::{Input, read};
pub use schema::schema;
pub use table::{Field, Home, Kind, State, Table};
pub use values::{Origin, Params, Resolved};

#[cfg(test)]
mod tests;
