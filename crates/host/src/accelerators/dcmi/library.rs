//! A thin binding of DCMI, the library of the Ascend driver, loaded when it is needed.
//!
//! The layouts are those of the `dcmi_interface_api.h` that comes with the driver. Every function is looked up when it is called.

use std::{
    ffi::{c_char, c_int, c_uint, c_ulong, c_ulonglong},
    path::{Path, PathBuf},
};

use libloading::Library;

/// Where the driver puts it; nothing promises that the loader finds it by its name.
pub(super) const PLACES: [&str; 3] =
    ["/usr/local/dcmi/libdcmi.so", "/usr/local/Ascend/driver/lib64/driver/libdcmi.so", "libdcmi.so"];
const MOST_CARDS: usize = 64;
const MOST_PROCESSES: usize = 32;
const MOST_CODES: usize = 128;
const NPU: c_int = 0;
const VDIE: c_int = 1;
const AI_CORES: c_int = 2;

/// A call that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The library lacks the function.
    Missing(&'static str),
    /// It answered this code.
    Code(c_int),
}

impl Failed {
    pub(super) fn in_words(&self) -> String {
        let code = match self {
            Self::Missing(name) => return format!("the library has no {name}"),
            Self::Code(code) => *code,
        };
        let words = match code {
            -8001 => "bad parameter",
            -8002 => "not permitted; run the agent as root",
            -8003 => "out of memory",
            -8005 => "internal error, or another container owns a card",
            -8006 => "timeout",
            -8007 => "no such card",
            -8008 => "no device",
            -8009 => "the driver refused",
            -8012 => "not ready",
            -8013 => "not supported in a container",
            -8015 | -8016 => "the card is being reset",
            -8017 => "the firmware is being upgraded",
            -8020 => "another container owns a card",
            -8255 => "not supported",
            _ => return format!("DCMI error {code}"),
        };
        format!("{words} ({code})")
    }
}

#[repr(C)]
#[derive(Default)]
struct ChipInfo {
    chip_type: [u8; 32],
    chip_name: [u8; 32],
    chip_version: [u8; 32],
    cores: c_uint,
    npu_name: [u8; 32],
}

#[repr(C)]
#[derive(Default)]
struct DieId {
    words: [c_uint; 5],
}

#[repr(C)]
#[derive(Default)]
struct Pci {
    vendor: c_uint,
    subvendor: c_uint,
    device: c_uint,
    subdevice: c_uint,
    domain: c_int,
    bus: c_uint,
    slot: c_uint,
    function: c_uint,
    reserved: [u8; 32],
}

#[repr(C)]
#[derive(Default)]
struct Hbm {
    size_mb: c_ulonglong,
    frequency: c_uint,
    used_mb: c_ulonglong,
    temperature: c_int,
    bandwidth: c_uint,
}

#[repr(C)]
struct Memory {
    size_mb: c_ulonglong,
    available_mb: c_ulonglong,
    frequency: c_uint,
    huge_page_size: c_ulong,
    huge_pages: c_ulong,
    huge_pages_free: c_ulong,
    utilization: c_uint,
    reserved: [u8; 60],
}

/// A process on a chip.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProcessInfo {
    pub(super) pid: c_int,
    pub(super) bytes: c_ulong,
}

/// The loaded and initialised library.
pub(super) struct Dcmi {
    library: Library,
}

macro_rules! call {
    ($dcmi:expr, $name:literal, ($($type:ty),*), ($($arg:expr),*)) => {{
        // SAFETY: the types are those of the driver's header, and the pointers live through the call.
        let code = unsafe {
            match $dcmi.library.get::<unsafe extern "C" fn($($type),*) -> c_int>($name) {
                Ok(function) => Ok(function($($arg),*)),
                Err(_) => Err(Failed::Missing(std::str::from_utf8($name).unwrap_or_default().trim_end_matches('\0'))),
            }
        };
        match code {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failed::Code(code)),
            Err(missing) => Err(missing),
        }
    }};
}

impl Dcmi {
    /// Whether the library can be loaded.
    pub(super) fn is_there(path: Option<&Path>) -> bool {
        load(path).is_ok()
    }

    /// Loads and initialises.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        let dcmi = Self { library: load(path)? };
        call!(dcmi, b"dcmi_init\0", (), ())
            .map_err(|failed| format!("DCMI could not be initialised: {}", failed.in_words()))?;
        Ok(dcmi)
    }

    pub(super) fn driver_version(&self) -> Result<String, Failed> {
        let mut text = [0_u8; 64];
        call!(self, b"dcmi_get_driver_version\0", (*mut c_char, c_uint), (text.as_mut_ptr().cast(), 64))?;
        Ok(words(&text))
    }

    /// Card numbers; on PCIe hosts they are slot numbers with gaps.
    pub(super) fn cards(&self) -> Result<Vec<i32>, Failed> {
        let (mut count, mut list) = (0, [0; MOST_CARDS]);
        call!(
            self,
            b"dcmi_get_card_list\0",
            (*mut c_int, *mut c_int, c_int),
            (&raw mut count, list.as_mut_ptr(), MOST_CARDS as c_int)
        )?;
        Ok(list[..usize::try_from(count).unwrap_or(0).min(MOST_CARDS)].to_vec())
    }

    /// Chips of a card that compute; controllers and helper CPUs are left out.
    pub(super) fn chips(&self, card: i32) -> Result<Vec<i32>, Failed> {
        let mut count = 0;
        call!(self, b"dcmi_get_device_num_in_card\0", (c_int, *mut c_int), (card, &raw mut count))?;
        let computes = |chip: &i32| {
            let mut kind = NPU;
            match call!(self, b"dcmi_get_device_type\0", (c_int, c_int, *mut c_int), (card, *chip, &raw mut kind)) {
                Ok(()) => kind == NPU,
                Err(Failed::Missing(_)) => true,
                Err(Failed::Code(_)) => false,
            }
        };
        Ok((0..count).filter(computes).collect())
    }

    pub(super) fn name(&self, card: i32, chip: i32) -> Result<String, Failed> {
        let mut info = ChipInfo::default();
        let newer =
            call!(self, b"dcmi_get_device_chip_info_v2\0", (c_int, c_int, *mut ChipInfo), (card, chip, &raw mut info));
        if let Err(Failed::Missing(_)) = newer {
            // The older struct is the same without its last field.
            call!(self, b"dcmi_get_device_chip_info\0", (c_int, c_int, *mut ChipInfo), (card, chip, &raw mut info))?;
        } else {
            newer?;
        }
        Ok(words(&info.chip_name))
    }

    pub(super) fn logic_id(&self, card: i32, chip: i32) -> Result<u32, Failed> {
        let mut id: c_int = -1;
        call!(self, b"dcmi_get_device_logic_id\0", (*mut c_int, c_int, c_int), (&raw mut id, card, chip))?;
        u32::try_from(id).map_err(|_| Failed::Code(-8007))
    }

    /// N of `/dev/davinciN`.
    pub(super) fn physical_id(&self, logic_id: u32) -> Result<u32, Failed> {
        let mut id: c_uint = 0;
        call!(self, b"dcmi_get_device_phyid_from_logicid\0", (c_uint, *mut c_uint), (logic_id, &raw mut id))?;
        Ok(id)
    }

    /// The id of the die, which stays with the chip.
    pub(super) fn die(&self, card: i32, chip: i32) -> Result<String, Failed> {
        let mut id = DieId::default();
        call!(self, b"dcmi_get_device_die_v2\0", (c_int, c_int, c_int, *mut DieId), (card, chip, VDIE, &raw mut id))?;
        let words: Vec<String> = id.words.iter().map(|word| format!("{word:08X}")).collect();
        Ok(words.join("-"))
    }

    /// As sysfs writes it.
    pub(super) fn pci(&self, card: i32, chip: i32) -> Result<String, Failed> {
        let mut pci = Pci::default();
        call!(self, b"dcmi_get_device_pcie_info_v2\0", (c_int, c_int, *mut Pci), (card, chip, &raw mut pci))?;
        Ok(format!("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus, pci.slot, pci.function))
    }

    /// Used and all, MB: HBM, or the board's memory where there is none.
    pub(super) fn memory_mb(&self, card: i32, chip: i32) -> Result<(u64, u64), Failed> {
        let mut hbm = Hbm::default();
        let answer = call!(self, b"dcmi_get_device_hbm_info\0", (c_int, c_int, *mut Hbm), (card, chip, &raw mut hbm));
        if answer.is_ok() && hbm.size_mb > 0 {
            return Ok((hbm.used_mb, hbm.size_mb));
        }
        let mut memory = Memory {
            size_mb: 0,
            available_mb: 0,
            frequency: 0,
            huge_page_size: 0,
            huge_pages: 0,
            huge_pages_free: 0,
            utilization: 0,
            reserved: [0; 60],
        };
        call!(self, b"dcmi_get_device_memory_info_v3\0", (c_int, c_int, *mut Memory), (card, chip, &raw mut memory))?;
        Ok((memory.size_mb.saturating_sub(memory.available_mb), memory.size_mb))
    }

    /// AI cores in use, percent.
    pub(super) fn utilization(&self, card: i32, chip: i32) -> Result<u32, Failed> {
        let mut rate: c_uint = 0;
        call!(
            self,
            b"dcmi_get_device_utilization_rate\0",
            (c_int, c_int, c_int, *mut c_uint),
            (card, chip, AI_CORES, &raw mut rate)
        )?;
        Ok(rate)
    }

    /// Tenths of a watt.
    pub(super) fn power(&self, card: i32, chip: i32) -> Result<i32, Failed> {
        let mut power: c_int = 0;
        call!(self, b"dcmi_get_device_power_info\0", (c_int, c_int, *mut c_int), (card, chip, &raw mut power))?;
        Ok(power)
    }

    pub(super) fn temperature(&self, card: i32, chip: i32) -> Result<i32, Failed> {
        let mut degrees: c_int = 0;
        call!(self, b"dcmi_get_device_temperature\0", (c_int, c_int, *mut c_int), (card, chip, &raw mut degrees))?;
        Ok(degrees)
    }

    pub(super) fn health(&self, card: i32, chip: i32) -> Result<u32, Failed> {
        let mut health: c_uint = 0;
        call!(self, b"dcmi_get_device_health\0", (c_int, c_int, *mut c_uint), (card, chip, &raw mut health))?;
        Ok(health)
    }

    pub(super) fn error_codes(&self, card: i32, chip: i32) -> Result<Vec<u32>, Failed> {
        let (mut count, mut list) = (0, [0; MOST_CODES]);
        call!(
            self,
            b"dcmi_get_device_errorcode_v2\0",
            (c_int, c_int, *mut c_int, *mut c_uint, c_uint),
            (card, chip, &raw mut count, list.as_mut_ptr(), MOST_CODES as c_uint)
        )?;
        Ok(list[..usize::try_from(count).unwrap_or(0).min(MOST_CODES)].to_vec())
    }

    /// Processes of a chip: all of them for an agent on the host, its own for one in a container.
    pub(super) fn processes(&self, card: i32, chip: i32) -> Result<Vec<ProcessInfo>, Failed> {
        let (mut count, mut list) = (0, [ProcessInfo::default(); MOST_PROCESSES]);
        call!(
            self,
            b"dcmi_get_device_resource_info\0",
            (c_int, c_int, *mut ProcessInfo, *mut c_int),
            (card, chip, list.as_mut_ptr(), &raw mut count)
        )?;
        Ok(list[..usize::try_from(count).unwrap_or(0).min(MOST_PROCESSES)].to_vec())
    }

    pub(super) fn link(&self, a: (i32, i32), b: (i32, i32)) -> Result<i32, Failed> {
        let mut kind: c_int = 0;
        call!(
            self,
            b"dcmi_get_topo_info_by_device_id\0",
            (c_int, c_int, c_int, c_int, *mut c_int),
            (a.0, a.1, b.0, b.1, &raw mut kind)
        )?;
        Ok(kind)
    }
}

fn load(path: Option<&Path>) -> Result<Library, String> {
    let places: Vec<PathBuf> =
        path.map_or_else(|| PLACES.iter().map(PathBuf::from).collect(), |path| vec![path.to_owned()]);
    let mut said = Vec::new();
    for place in places {
        // SAFETY: the initialisers of the driver's library are trusted as the driver is.
        match unsafe { Library::new(&place) } {
            Ok(library) => return Ok(library),
            Err(error) => said.push(format!("{}: {error}", place.display())),
        }
    }
    Err(format!("the Ascend driver's library cannot be loaded: {}", said.join("; ")))
}

fn words(text: &[u8]) -> String {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).trim().to_owned()
}
