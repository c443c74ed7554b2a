//! A thin binding of NVML, loaded when it is needed: one agent for hosts with and without a driver.
//!
//! Every function is looked up when it is called; an old library that lacks one fails that call alone. The layouts are those of
//! `nvml.h` (API 11 and newer).

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void},
    path::{Path, PathBuf},
};

use libloading::Library;

/// Where the library is when nobody says so: never without the `.1`, which only development packages have.
const DEFAULT: &str = "libnvidia-ml.so.1";
const TEXT: usize = 96;

/// A device of the library.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(*mut c_void);

// SAFETY: the library takes its handles on every thread; they are never followed here.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// A call that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The library lacks the function.
    Missing(&'static str),
    /// It answered this code.
    Code(c_int),
}

impl Failed {
    pub(super) const NOT_FOUND: Self = Self::Code(6);

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Missing(name) => format!("the library has no {name}"),
            Self::Code(code) => code_in_words(*code),
        }
    }
}

/// What a code means.
fn code_in_words(code: c_int) -> String {
    let words = match code {
        1 => "not initialised",
        2 => "invalid argument",
        3 => "not supported",
        4 => "no permission",
        6 => "not found",
        7 => "insufficient size",
        8 => "insufficient power",
        9 => "driver not loaded",
        10 => "timeout",
        11 => "interrupt issue",
        12 => "library not found",
        13 => "function not found",
        15 => "GPU is lost",
        16 => "reset required",
        17 => "blocked by the operating system",
        18 => "driver/library version mismatch",
        19 => "in use",
        20 => "insufficient memory",
        999 => "unknown error",
        _ => return format!("NVML error {code}"),
    };
    words.to_owned()
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Memory {
    version: c_uint,
    pub(super) total: c_ulonglong,
    pub(super) reserved: c_ulonglong,
    pub(super) free: c_ulonglong,
    pub(super) used: c_ulonglong,
}

#[repr(C)]
#[derive(Default)]
struct MemoryV1 {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
struct Pci {
    legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// A process on a device (v2 and v3 of the call).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProcessInfo {
    pub(super) pid: c_uint,
    pub(super) memory: c_ulonglong,
    pub(super) gpu_instance: c_uint,
    pub(super) compute_instance: c_uint,
}

/// The one before: without instances.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProcessInfoV1 {
    pid: c_uint,
    memory: c_ulonglong,
}

#[repr(C)]
struct EventData {
    device: Handle,
    kind: c_ulonglong,
    data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// NVML says "not available" with all bits set.
pub(super) const NO_MEMORY_FIGURE: u64 = u64::MAX;
/// The event that tells an XID.
const XID_EVENT: c_ulonglong = 0x8;
const INSUFFICIENT_SIZE: c_int = 7;

/// The loaded and initialised library.
pub(super) struct Nvml {
    library: Library,
    events: Option<Handle>,
    initialised: bool,
}

// SAFETY: an event set is a handle like the others.
unsafe impl Send for Nvml {}
// SAFETY: NVML may be called from every thread; the event set is used under the provider's lock.
unsafe impl Sync for Nvml {}

/// Calls a function of the library by its name and types; gives [`Failed`] for one that is missing or fails.
macro_rules! call {
    ($nvml:expr, $name:literal, ($($type:ty),*), ($($arg:expr),*)) => {{
        // SAFETY: the types are those of nvml.h, and the pointers live through the call.
        let code = unsafe {
            match $nvml.library.get::<unsafe extern "C" fn($($type),*) -> c_int>($name) {
                Ok(function) => Ok(function($($arg),*)),
                Err(_) => Err(Failed::Missing(name_of($name))),
            }
        };
        match code {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failed::Code(code)),
            Err(missing) => Err(missing),
        }
    }};
}

fn name_of(name: &'static [u8]) -> &'static str {
    std::str::from_utf8(name).unwrap_or_default().trim_end_matches('\0')
}

impl Nvml {
    /// Whether the library can be loaded at all.
    pub(super) fn is_there(path: Option<&Path>) -> bool {
        load(path).is_ok()
    }

    /// Loads and initialises.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        let name = path.map_or_else(|| PathBuf::from(DEFAULT), Path::to_owned);
        let library = load(path)
            .map_err(|error| format!("the NVIDIA driver's library {} cannot be loaded: {error}", name.display()))?;
        let mut nvml = Self { library, events: None, initialised: false };
        match call!(nvml, b"nvmlInit_v2\0", (), ()) {
            Ok(()) => {
                nvml.initialised = true;
                Ok(nvml)
            }
            Err(failed) => {
                let hint = match &failed {
                    Failed::Missing(_) => "this is no NVML, or a broken installation of the driver",
                    Failed::Code(9) => "load the kernel module (`modprobe nvidia`)",
                    Failed::Code(12) => "a part of the driver's libraries is missing; install the driver again",
                    Failed::Code(18) => "the driver was upgraded and the kernel still has the old one; reboot the host",
                    Failed::Code(4) => "run the agent as root, or give it the device nodes /dev/nvidia*",
                    Failed::Code(17 | 999) => {
                        "an agent in a container has lost its devices, or the system forbids /dev/nvidiactl"
                    }
                    _ => "see `nvidia-smi` and the kernel's log",
                };
                Err(format!("NVML could not be initialised: {}; {hint}", failed.in_words()))
            }
        }
    }

    pub(super) fn driver_version(&self) -> Result<String, Failed> {
        self.text(|buffer, size| call!(self, b"nvmlSystemGetDriverVersion\0", (*mut c_char, c_uint), (buffer, size)))
    }

    pub(super) fn count(&self) -> Result<u32, Failed> {
        let mut count = 0;
        call!(self, b"nvmlDeviceGetCount_v2\0", (*mut c_uint), (&raw mut count))?;
        Ok(count)
    }

    pub(super) fn device(&self, index: u32) -> Result<Handle, Failed> {
        let mut device = Handle(std::ptr::null_mut());
        call!(self, b"nvmlDeviceGetHandleByIndex_v2\0", (c_uint, *mut Handle), (index, &raw mut device))?;
        Ok(device)
    }

    pub(super) fn name(&self, device: Handle) -> Result<String, Failed> {
        self.text(|buffer, size| {
            call!(self, b"nvmlDeviceGetName\0", (Handle, *mut c_char, c_uint), (device, buffer, size))
        })
    }

    pub(super) fn uuid(&self, device: Handle) -> Result<String, Failed> {
        self.text(|buffer, size| {
            call!(self, b"nvmlDeviceGetUUID\0", (Handle, *mut c_char, c_uint), (device, buffer, size))
        })
    }

    pub(super) fn minor(&self, device: Handle) -> Result<u32, Failed> {
        let mut minor = 0;
        call!(self, b"nvmlDeviceGetMinorNumber\0", (Handle, *mut c_uint), (device, &raw mut minor))?;
        Ok(minor)
    }

    /// As sysfs writes it.
    pub(super) fn pci(&self, device: Handle) -> Result<String, Failed> {
        let mut pci =
            Pci { legacy: [0; 16], domain: 0, bus: 0, device: 0, device_id: 0, subsystem_id: 0, bus_id: [0; 32] };
        call!(self, b"nvmlDeviceGetPciInfo_v3\0", (Handle, *mut Pci), (device, &raw mut pci))?;
        Ok(format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device))
    }

    /// Memory without what the driver keeps for itself; on a library without that call, with it.
    pub(super) fn memory(&self, device: Handle) -> Result<Memory, Failed> {
        let size = u32::try_from(size_of::<Memory>()).unwrap_or_default();
        let mut memory = Memory { version: size | 2 << 24, ..Memory::default() };
        let done = call!(self, b"nvmlDeviceGetMemoryInfo_v2\0", (Handle, *mut Memory), (device, &raw mut memory));
        match done {
            Ok(()) => Ok(memory),
            Err(Failed::Missing(_) | Failed::Code(13)) => {
                let mut old = MemoryV1::default();
                call!(self, b"nvmlDeviceGetMemoryInfo\0", (Handle, *mut MemoryV1), (device, &raw mut old))?;
                Ok(Memory { version: 0, total: old.total, reserved: 0, free: old.free, used: old.used })
            }
            Err(failed) => Err(failed),
        }
    }

    pub(super) fn utilization(&self, device: Handle) -> Result<u32, Failed> {
        let mut rates = Utilization::default();
        call!(self, b"nvmlDeviceGetUtilizationRates\0", (Handle, *mut Utilization), (device, &raw mut rates))?;
        Ok(rates.gpu)
    }

    pub(super) fn temperature(&self, device: Handle) -> Result<u32, Failed> {
        let mut degrees = 0;
        call!(self, b"nvmlDeviceGetTemperature\0", (Handle, c_uint, *mut c_uint), (device, 0, &raw mut degrees))?;
        Ok(degrees)
    }

    pub(super) fn power_mw(&self, device: Handle) -> Result<u32, Failed> {
        let mut power = 0;
        call!(self, b"nvmlDeviceGetPowerUsage\0", (Handle, *mut c_uint), (device, &raw mut power))?;
        Ok(power)
    }

    /// 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process.
    pub(super) fn compute_mode(&self, device: Handle) -> Result<u32, Failed> {
        let mut mode = 0;
        call!(self, b"nvmlDeviceGetComputeMode\0", (Handle, *mut c_uint), (device, &raw mut mode))?;
        Ok(mode)
    }

    /// Whether MIG is on.
    pub(super) fn mig(&self, device: Handle) -> Result<bool, Failed> {
        let (mut current, mut pending) = (0, 0);
        call!(
            self,
            b"nvmlDeviceGetMigMode\0",
            (Handle, *mut c_uint, *mut c_uint),
            (device, &raw mut current, &raw mut pending)
        )?;
        Ok(current == 1)
    }

    /// The slices of a GPU; the library tells how many there may be, not how many there are.
    pub(super) fn slices(&self, device: Handle) -> Result<Vec<Handle>, Failed> {
        let mut most: c_uint = 0;
        call!(self, b"nvmlDeviceGetMaxMigDeviceCount\0", (Handle, *mut c_uint), (device, &raw mut most))?;
        let mut slices = Vec::new();
        for at in 0..most {
            let mut slice = Handle(std::ptr::null_mut());
            let done = call!(
                self,
                b"nvmlDeviceGetMigDeviceHandleByIndex\0",
                (Handle, c_uint, *mut Handle),
                (device, at, &raw mut slice)
            );
            match done {
                Ok(()) => slices.push(slice),
                Err(Failed::NOT_FOUND) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(slices)
    }

    /// GPU instance and compute instance of a slice.
    pub(super) fn instances(&self, slice: Handle) -> Result<(u32, u32), Failed> {
        let (mut gpu, mut compute) = (0, 0);
        call!(self, b"nvmlDeviceGetGpuInstanceId\0", (Handle, *mut c_uint), (slice, &raw mut gpu))?;
        call!(self, b"nvmlDeviceGetComputeInstanceId\0", (Handle, *mut c_uint), (slice, &raw mut compute))?;
        Ok((gpu, compute))
    }

    /// How two GPUs are connected: 0 one board, 10 one switch, 20 several, 30 host bridge, 40 NUMA node, 50 between sockets.
    pub(super) fn common_ancestor(&self, a: Handle, b: Handle) -> Result<u32, Failed> {
        let mut level = 0;
        call!(self, b"nvmlDeviceGetTopologyCommonAncestor\0", (Handle, Handle, *mut c_uint), (a, b, &raw mut level))?;
        Ok(level)
    }

    /// Where an active NVLink of a GPU leads: the PCI address of the other end.
    pub(super) fn nvlink(&self, device: Handle, link: u32) -> Result<Option<String>, Failed> {
        let mut active = 0;
        call!(self, b"nvmlDeviceGetNvLinkState\0", (Handle, c_uint, *mut c_uint), (device, link, &raw mut active))?;
        if active == 0 {
            return Ok(None);
        }
        let mut pci =
            Pci { legacy: [0; 16], domain: 0, bus: 0, device: 0, device_id: 0, subsystem_id: 0, bus_id: [0; 32] };
        call!(
            self,
            b"nvmlDeviceGetNvLinkRemotePciInfo_v2\0",
            (Handle, c_uint, *mut Pci),
            (device, link, &raw mut pci)
        )?;
        Ok(Some(format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device)))
    }

    /// Processes that compute, in the oldest form that the library has.
    pub(super) fn compute_processes(&self, device: Handle) -> Result<Vec<ProcessInfo>, Failed> {
        for name in [&b"nvmlDeviceGetComputeRunningProcesses_v3\0"[..], b"nvmlDeviceGetComputeRunningProcesses_v2\0"] {
            match self.processes(name, device) {
                Err(Failed::Missing(_)) => {}
                done => return done,
            }
        }
        self.processes_v1(device)
    }

    pub(super) fn mps_processes(&self, device: Handle) -> Result<Vec<ProcessInfo>, Failed> {
        self.processes(b"nvmlDeviceGetMPSComputeRunningProcesses_v3\0", device)
    }

    pub(super) fn graphics_processes(&self, device: Handle) -> Result<Vec<ProcessInfo>, Failed> {
        self.processes(b"nvmlDeviceGetGraphicsRunningProcesses_v3\0", device)
    }

    fn processes(&self, name: &'static [u8], device: Handle) -> Result<Vec<ProcessInfo>, Failed> {
        type Function = unsafe extern "C" fn(Handle, *mut c_uint, *mut ProcessInfo) -> c_int;
        // SAFETY: the type is that of nvml.h.
        let function = unsafe { self.library.get::<Function>(name) }.map_err(|_| Failed::Missing(name_of(name)))?;
        // SAFETY: the buffer is as long as the count says.
        grown(|count, buffer| unsafe { function(device, count, buffer) })
    }

    fn processes_v1(&self, device: Handle) -> Result<Vec<ProcessInfo>, Failed> {
        type Function = unsafe extern "C" fn(Handle, *mut c_uint, *mut ProcessInfoV1) -> c_int;
        let name = b"nvmlDeviceGetComputeRunningProcesses\0";
        // SAFETY: the type is that of nvml.h.
        let function = unsafe { self.library.get::<Function>(name) }.map_err(|_| Failed::Missing(name_of(name)))?;
        // SAFETY: the buffer is as long as the count says.
        let old: Vec<ProcessInfoV1> = grown(|count, buffer| unsafe { function(device, count, buffer) })?;
        Ok(old
            .into_iter()
            .map(|old| ProcessInfo { pid: old.pid, memory: old.memory, ..ProcessInfo::default() })
            .collect())
    }

    /// Listens to critical events of a device. Without an event set nothing is heard.
    pub(super) fn listen(&mut self, device: Handle) -> Result<(), Failed> {
        let set = match self.events {
            Some(set) => set,
            None => {
                let mut set = Handle(std::ptr::null_mut());
                call!(self, b"nvmlEventSetCreate\0", (*mut Handle), (&raw mut set))?;
                *self.events.insert(set)
            }
        };
        call!(self, b"nvmlDeviceRegisterEvents\0", (Handle, c_ulonglong, Handle), (device, XID_EVENT, set))
    }

    /// The XIDs that came since the last call, each with its device.
    pub(super) fn xids(&self) -> Vec<(Handle, u64)> {
        let mut xids = Vec::new();
        let Some(set) = self.events else { return xids };
        // A card that falls off the bus repeats itself.
        while xids.len() < 64 {
            let mut event = EventData {
                device: Handle(std::ptr::null_mut()),
                kind: 0,
                data: 0,
                gpu_instance: 0,
                compute_instance: 0,
            };
            let done =
                call!(self, b"nvmlEventSetWait_v2\0", (Handle, *mut EventData, c_uint), (set, &raw mut event, 0));
            if done.is_err() {
                break;
            }
            if event.kind & XID_EVENT != 0 {
                xids.push((event.device, event.data));
            }
        }
        xids
    }

    fn text(&self, call: impl FnOnce(*mut c_char, c_uint) -> Result<(), Failed>) -> Result<String, Failed> {
        let mut buffer: [c_char; TEXT] = [0; TEXT];
        call(buffer.as_mut_ptr(), TEXT as c_uint)?;
        buffer[TEXT - 1] = 0;
        // SAFETY: it ends with a zero at the latest at its last place.
        Ok(unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_string_lossy().into_owned())
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if let Some(set) = self.events {
            let _ = call!(self, b"nvmlEventSetFree\0", (Handle), (set));
        }
        if self.initialised {
            let _ = call!(self, b"nvmlShutdown\0", (), ());
        }
    }
}

fn load(path: Option<&Path>) -> Result<Library, libloading::Error> {
    // SAFETY: the initialisers of the driver's library are trusted as the driver is.
    unsafe { Library::new(path.unwrap_or(Path::new(DEFAULT))) }
}

/// A list whose length the library tells in a first call without a buffer.
fn grown<T: Copy + Default>(call: impl Fn(*mut c_uint, *mut T) -> c_int) -> Result<Vec<T>, Failed> {
    let mut count: c_uint = 0;
    for _ in 0..4 {
        let mut list = vec![T::default(); count as usize];
        let mut filled = count;
        let buffer = if list.is_empty() { std::ptr::null_mut() } else { list.as_mut_ptr() };
        match call(&raw mut filled, buffer) {
            0 => {
                list.truncate(filled as usize);
                return Ok(list);
            }
            // Processes may have come meanwhile: some room more.
            INSUFFICIENT_SIZE => count = filled + 8,
            code => return Err(Failed::Code(code)),
        }
    }
    Err(Failed::Code(INSUFFICIENT_SIZE))
}
