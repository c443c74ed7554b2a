//! Enumerations of the wire. Requests give the name or, as Java reads a bare number, the position; answers give the code.

use serde_json::Value;

use crate::thrown::Thrown;

/// One enumeration: its Java class and its (name, code) in declaration order.
pub(crate) struct JavaEnum {
    class: &'static str,
    values: &'static [(&'static str, i32)],
}

pub(crate) const TIME_TYPE: JavaEnum = JavaEnum {
    class: "tech.powerjob.common.enums.TimeExpressionType",
    values: &[
        ("API", 1),
        ("CRON", 2),
        ("FIXED_RATE", 3),
        ("FIXED_DELAY", 4),
        ("WORKFLOW", 5),
        ("DAILY_TIME_INTERVAL", 11),
    ],
};
pub(crate) const EXECUTE_TYPE: JavaEnum = JavaEnum {
    class: "tech.powerjob.common.enums.ExecuteType",
    values: &[("STANDALONE", 1), ("BROADCAST", 2), ("MAP_REDUCE", 3), ("MAP", 4)],
};
pub(crate) const PROCESSOR_TYPE: JavaEnum = JavaEnum {
    class: "tech.powerjob.common.enums.ProcessorType",
    values: &[("BUILT_IN", 1), ("SHELL", 2), ("PYTHON", 3), ("EXTERNAL", 4)],
};
pub(crate) const DISPATCH_STRATEGY: JavaEnum = JavaEnum {
    class: "tech.powerjob.common.enums.DispatchStrategy",
    values: &[("HEALTH_FIRST", 1), ("RANDOM", 2), ("SPECIFY", 11)],
};
pub(crate) const INSTANCE_STATUS: JavaEnum = JavaEnum {
    class: "tech.powerjob.common.enums.InstanceStatus",
    values: &[
        ("WAITING_DISPATCH", 1),
        ("WAITING_WORKER_RECEIVE", 2),
        ("RUNNING", 3),
        ("FAILED", 4),
        ("SUCCEED", 5),
        ("CANCELED", 9),
        ("STOPPED", 10),
    ],
};

impl JavaEnum {
    /// The code of what a request gave; `None` for null or nothing.
    pub(crate) fn read(&self, field: &str, value: Option<&Value>) -> Result<Option<i32>, Thrown> {
        let found = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(name)) => self.values.iter().find(|(known, _)| known == name).map(|(_, code)| *code),
            Some(Value::Number(position)) => {
                position.as_u64().and_then(|at| self.values.get(usize::try_from(at).ok()?)).map(|(_, code)| *code)
            }
            Some(_) => None,
        };
        found.map(Some).ok_or_else(|| {
            let names: Vec<_> = self.values.iter().map(|(name, _)| *name).collect();
            let shown = value.map(ToString::to_string).unwrap_or_default();
            Thrown::unreadable(format!(
                "Cannot deserialize value of type `{}` from {shown}: not one of the values accepted for Enum class: [{}] (field \"{field}\")",
                self.class,
                names.join(", ")
            ))
        })
    }

    /// The name of a code; codes in the world come from [`JavaEnum::read`] only.
    pub(crate) fn name(&self, code: i32) -> &'static str {
        self.values.iter().find(|(_, known)| *known == code).map_or("UNKNOWN", |(name, _)| name)
    }

    pub(crate) fn has(&self, code: i64) -> bool {
        self.values.iter().any(|(_, known)| i64::from(*known) == code)
    }
}

/// InstanceStatus codes by name.
pub(crate) mod status {
    pub(crate) const WAITING_DISPATCH: i32 = 1;
    pub(crate) const WAITING_WORKER_RECEIVE: i32 = 2;
    pub(crate) const RUNNING: i32 = 3;
    pub(crate) const FAILED: i32 = 4;
    pub(crate) const SUCCEED: i32 = 5;
    pub(crate) const CANCELED: i32 = 9;
    pub(crate) const STOPPED: i32 = 10;

    /// Waiting or running: what may be stopped.
    pub(crate) fn is_open(code: i32) -> bool {
        (WAITING_DISPATCH..=RUNNING).contains(&code)
    }
}

/// WorkflowInstanceStatus codes by name.
pub(crate) mod wf_status {
    pub(crate) const WAITING: i32 = 1;
    pub(crate) const RUNNING: i32 = 2;
    pub(crate) const FAILED: i32 = 3;
    pub(crate) const SUCCEED: i32 = 4;
    pub(crate) const STOPPED: i32 = 10;
}

/// TimeExpressionType codes by name.
pub(crate) mod time_type {
    pub(crate) const CRON: i32 = 2;
    pub(crate) const FIXED_RATE: i32 = 3;
    pub(crate) const FIXED_DELAY: i32 = 4;
    pub(crate) const WORKFLOW: i32 = 5;
    pub(crate) const DAILY_TIME_INTERVAL: i32 = 11;
}
