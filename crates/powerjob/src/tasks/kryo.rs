//! The bodies of sub-tasks as Java workers write and read them: one value of Kryo 5's "class and object" form.
//!
//! Java ships its whole buffer, so anything may follow the value. Only null, numbers, booleans and strings have a form
//! that needs no Java class; they are what [`TaskBody`] holds.

use crate::task::TaskBody;

/// Why the body of a sub-task cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KryoError {
    /// An object of a class that has no meaning outside of Java.
    #[error(
        "the sub-task's content is a Java object of class `{0}`, which only a Java worker can read; this worker reads null, \
         Integer, Long, Double, Boolean and String. Let the mapping processor send one of these (e.g. JSON text), or keep \
         the job to Java workers (tag)"
    )]
    JavaOnly(String),
    /// Not Kryo, or cut.
    #[error("the sub-task's content cannot be read: {0}; one value as Kryo 5 writes it (class and object) is accepted")]
    Broken(&'static str),
}

// Class numbers: 0 is null, 1 a class by name, the rest Kryo's registrations of the simple types plus 2.
const NULL: u64 = 0;
const NAMED: u64 = 1;
const INTEGER: u64 = 2;
const STRING: u64 = 3;
const BOOLEAN: u64 = 5;
const LONG: u64 = 9;
const DOUBLE: u64 = 10;
/// In front of an object that is not a back reference.
const NOT_NULL: u8 = 1;

/// Reads the value that the content begins with.
///
/// # Errors
/// [`KryoError`]; an empty content counts as cut.
pub fn read(content: &[u8]) -> Result<TaskBody, KryoError> {
    let mut rest = Rest(content);
    Ok(match rest.varint(5)? {
        NULL => TaskBody::Null,
        NAMED => return Err(named(&mut rest)),
        INTEGER => TaskBody::Int(rest.integer()?),
        STRING => {
            rest.object()?;
            rest.string()?.map_or(TaskBody::Null, TaskBody::Text)
        }
        BOOLEAN => TaskBody::Bool(rest.byte()? != 0),
        LONG => TaskBody::Long(unzigzag(rest.varint(9)?)),
        DOUBLE => TaskBody::Double(f64::from_le_bytes(rest.bytes()?)),
        other => return Err(KryoError::JavaOnly(registered(other))),
    })
}

/// Writes a value so that Java workers read it as Integer, Long, Double, Boolean, String or null.
pub fn write(body: &TaskBody) -> Vec<u8> {
    match body {
        TaskBody::Null => vec![0],
        TaskBody::Bool(flag) => vec![5, u8::from(*flag)],
        TaskBody::Int(number) => {
            let mut out = vec![2];
            // 32 bits have at most five groups, so the 64-bit form is the same.
            varint(zigzag(i64::from(*number)), 10, &mut out);
            out
        }
        TaskBody::Long(number) => {
            let mut out = vec![9];
            varint(zigzag(*number), 9, &mut out);
            out
        }
        TaskBody::Double(number) => [&[10][..], &number.to_le_bytes()].concat(),
        TaskBody::Text(text) => string(text),
    }
}

fn named(rest: &mut Rest<'_>) -> KryoError {
    // The number under which the name may be referred to later; 0 for the first one.
    let read = rest.varint(5).and_then(|_| rest.string());
    match read {
        Ok(Some(name)) if !name.is_empty() => KryoError::JavaOnly(name.chars().take(200).collect()),
        Ok(_) => KryoError::Broken("a class without a name"),
        Err(why) => why,
    }
}

fn registered(number: u64) -> String {
    match number {
        4 => "java.lang.Float".to_owned(),
        6 => "java.lang.Byte".to_owned(),
        7 => "java.lang.Character".to_owned(),
        8 => "java.lang.Short".to_owned(),
        other => format!("registered as number {other}"),
    }
}

fn string(text: &str) -> Vec<u8> {
    let units = text.encode_utf16();
    let mut out = vec![3, NOT_NULL];
    let length = text.chars().map(char::len_utf16).sum::<usize>() as u64 + 1;
    // The first byte: top bit set, bit 6 = more follows, six bits; then groups of seven.
    let (low, more) = ((length & 0x3f) as u8, length >> 6);
    out.push(0x80 | low | if more > 0 { 0x40 } else { 0 });
    if more > 0 {
        varint(more, 10, &mut out);
    }
    for unit in units {
        match unit {
            0..=0x7f => out.push(unit as u8),
            0x80..=0x7ff => out.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
            _ => out.extend([0xe0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]),
        }
    }
    out
}

fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Groups of seven bits, lowest first, top bit = more; a last allowed byte holds eight.
fn varint(mut number: u64, longest: usize, out: &mut Vec<u8>) {
    for _ in 1..longest {
        if number < 0x80 {
            break;
        }
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, KryoError> {
        let (&first, rest) = self.0.split_first().ok_or(KryoError::Broken("it is cut off"))?;
        self.0 = rest;
        Ok(first)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], KryoError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(KryoError::Broken("it is cut off"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn varint(&mut self, longest: u32) -> Result<u64, KryoError> {
        let mut number = 0_u64;
        for group in 0..longest {
            let byte = self.byte()?;
            if group == 8 {
                return Ok(number | u64::from(byte) << 56);
            }
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(KryoError::Broken("a number in it is too long"))
    }

    fn integer(&mut self) -> Result<i32, KryoError> {
        i32::try_from(unzigzag(self.varint(5)?)).map_err(|_| KryoError::Broken("an Integer of more than 32 bits"))
    }

    /// The mark in front of an object; nothing can be referred back to at the start of the content.
    fn object(&mut self) -> Result<(), KryoError> {
        match self.byte()? {
            NOT_NULL => Ok(()),
            _ => Err(KryoError::Broken("it refers to an object that is not there")),
        }
    }

    fn string(&mut self) -> Result<Option<String>, KryoError> {
        let first = self.byte()?;
        if first & 0x80 == 0 {
            return self.ascii(first).map(Some);
        }
        let mut length = u64::from(first & 0x3f);
        if first & 0x40 != 0 {
            length |= self.varint(5)?.checked_mul(64).ok_or(KryoError::Broken("a text in it is too long"))?;
        }
        match length {
            0 => Ok(None),
            more => self.units(more - 1).map(Some),
        }
    }

    /// ASCII up to the byte whose top bit is set.
    fn ascii(&mut self, first: u8) -> Result<String, KryoError> {
        let mut text = String::from(char::from(first));
        loop {
            let byte = self.byte()?;
            text.push(char::from(byte & 0x7f));
            if byte & 0x80 != 0 {
                return Ok(text);
            }
        }
    }

    /// So many UTF-16 units of one to three bytes each. A lone half of a pair becomes the replacement character.
    fn units(&mut self, count: u64) -> Result<String, KryoError> {
        if count > self.0.len() as u64 {
            return Err(KryoError::Broken("it is cut off"));
        }
        let mut units = Vec::new();
        for _ in 0..count {
            let first = u16::from(self.byte()?);
            units.push(match first >> 4 {
                0..=7 => first,
                12 | 13 => (first & 0x1f) << 6 | self.six()?,
                14 => (first & 0x0f) << 12 | self.six()? << 6 | self.six()?,
                _ => return Err(KryoError::Broken("a text in it is not UTF-8 as Java writes it")),
            });
        }
        Ok(String::from_utf16_lossy(&units))
    }

    fn six(&mut self) -> Result<u16, KryoError> {
        Ok(u16::from(self.byte()? & 0x3f))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    }

    fn text(value: &str) -> TaskBody {
        TaskBody::Text(value.to_owned())
    }

    #[test]
    fn values_as_java_writes_them_are_read_whatever_follows() {
        let samples = [
            ("00", TaskBody::Null),
            ("02 0a", TaskBody::Int(5)),
            ("02 d8 04", TaskBody::Int(300)),
            ("02 ff ff ff ff 0f", TaskBody::Int(i32::MIN)),
            ("05 01", TaskBody::Bool(true)),
            ("05 00", TaskBody::Bool(false)),
            ("09 80 c0 a8 ca 9a 3a", TaskBody::Long(1_000_000_000_000)),
            ("09 ff ff ff ff ff ff ff ff ff", TaskBody::Long(i64::MIN)),
            ("0a 00 00 00 00 00 00 f8 3f", TaskBody::Double(1.5)),
            ("03 01 68 65 6c 6c ef", text("hello")),
            ("03 01 81", text("")),
            ("03 01 80", TaskBody::Null),
            ("03 01 82 61", text("a")),
            ("03 01 83 e4 b8 ad e6 96 87", text("中文")),
            ("03 01 84 78 ed a0 bd ed b8 80", text("x😀")),
            ("03 01 73 68 61 72 64 2d b1", text("shard-1")),
        ];
        for (bytes, value) in samples {
            let mut content = hex(bytes);
            assert_eq!(read(&content), Ok(value.clone()), "{bytes}");
            content.resize(1024, 0);
            assert_eq!(read(&content), Ok(value), "{bytes} padded");
        }
        let long = [hex("03 01 c9 03"), vec![b'z'; 200]].concat();
        assert_eq!(read(&long), Ok(text(&"z".repeat(200))));
        let forty = [hex("03 01 a9"), vec![b'q'; 40]].concat();
        assert_eq!(read(&forty), Ok(text(&"q".repeat(40))));
    }

    #[test]
    fn strings_are_written_in_the_length_form() {
        assert_eq!(write(&text("")), hex("03 01 81"));
        assert_eq!(write(&text("a")), hex("03 01 82 61"));
        assert_eq!(write(&text("中文")), hex("03 01 83 e4 b8 ad e6 96 87"));
        assert_eq!(write(&text("x😀")), hex("03 01 84 78 ed a0 bd ed b8 80"));
        assert_eq!(write(&text(&"z".repeat(200)))[..4], hex("03 01 c9 03")[..]);
        assert_eq!(write(&text(&"q".repeat(40)))[..3], hex("03 01 a9")[..]);
        assert_eq!(write(&TaskBody::Int(300)), hex("02 d8 04"));
        assert_eq!(write(&TaskBody::Long(1_000_000_000_000)), hex("09 80 c0 a8 ca 9a 3a"));
        assert_eq!(write(&TaskBody::Bool(true)), hex("05 01"));
    }

    #[test]
    fn trap_22_content_of_another_class_names_the_class_and_says_that_only_java_reads_it() {
        let name = "java.util.HashMap";
        let mut content = hex("01 00");
        content.extend(name.bytes());
        *content.last_mut().expect("a name") |= 0x80;
        content.extend(hex("01 02 03 01 6b b1 03 01 76 b1"));
        content.resize(1024, 0);
        let why = read(&content).expect_err("a map");
        assert_eq!(why, KryoError::JavaOnly(name.to_owned()));
        assert!(why.to_string().contains("class `java.util.HashMap`, which only a Java worker can read"), "{why}");
        assert_eq!(read(&hex("08 01 00")), Err(KryoError::JavaOnly("java.lang.Short".to_owned())));
    }

    #[test]
    fn content_that_is_cut_is_an_error() {
        for bytes in ["", "02", "02 80", "03", "03 01", "03 01 c9 03 7a", "03 02", "09 80", "0a 00", "01", "01 00 6a"] {
            assert!(matches!(read(&hex(bytes)), Err(KryoError::Broken(_))), "{bytes}");
        }
        assert!(read(&[0xff; 32]).is_err());
        // A length far beyond the content is no reason to reserve memory.
        assert!(read(&hex("03 01 ff ff ff ff 7f 61")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            flag in any::<bool>(), int in any::<i32>(), long in any::<i64>(), double in -1e300..1e300_f64, string in ".*",
        ) {
            let texts = [text(&string), text(&string.repeat(40))];
            let values = [TaskBody::Bool(flag), TaskBody::Int(int), TaskBody::Long(long), TaskBody::Double(double)];
            for value in values.into_iter().chain(texts) {
                let mut content = write(&value);
                prop_assert_eq!(read(&content), Ok(value.clone()));
                content.extend([0; 16]);
                prop_assert_eq!(read(&content), Ok(value));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(kind in 0..12_u8, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
            let _ = read(&[&[kind, 1][..], &bytes].concat());
            let _ = read(&[&[kind][..], &bytes].concat());
        }
    }
}
