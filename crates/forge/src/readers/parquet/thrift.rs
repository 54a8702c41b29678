//! Thrift's compact protocol, as far as it takes to walk over a structure, see that it is what it should be and that it ends
//! within its bytes.
//!
//! The library that reads Parquet believes what it finds: a list of two thousand million booleans, which it skips without
//! taking a byte, keeps it busy for seconds, and memory is taken for as many children as a schema claims. Here an element
//! takes a byte at least, fields have their types, and a page says how large it is before anything is unpacked.

use super::format::{FOOTER, Fields, PAGE_HEADER, Type};

/// Structures inside each other that are followed.
const DEPTH: u32 = 64;

/// What the header of a page says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Bytes that the header takes.
    pub(super) length: u64,
    /// Bytes of the page in the file.
    pub(super) packed: u64,
    /// Bytes of the page in memory.
    pub(super) unpacked: u64,
}

/// Whether `bytes` begin with a file's footer, in which no element of the schema (field 2) has more children (its field 5)
/// than there are bytes.
pub(super) fn is_footer(bytes: &[u8]) -> bool {
    let mut is_sound = true;
    let end = walk(bytes, FOOTER, &mut |path, number| {
        is_sound &= path != [2, 5] || usize::try_from(number).is_ok_and(|children| children <= bytes.len());
    });
    end.is_some() && is_sound
}

/// The header of a page that `bytes` begin with, of which fields 2 and 3 are sizes; `None` where it does not end, is none or
/// has a negative size.
pub(super) fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let (mut unpacked, mut packed) = (None, None);
    let length = walk(bytes, PAGE_HEADER, &mut |path, number| match path {
        [2] => unpacked = u64::try_from(number).ok(),
        [3] => packed = u64::try_from(number).ok(),
        _ => {}
    })?;
    Some(PageHeader { length: length as u64, packed: packed?, unpacked: unpacked? })
}

/// Walks over the structure of `fields` that `bytes` begin with and returns where it ends. `see` hears of every number in
/// it, with the fields that lead there; the elements of a list have the list's.
fn walk(bytes: &[u8], fields: Fields, see: &mut dyn FnMut(&[i16], i64)) -> Option<usize> {
    let mut walk = Walk { bytes, at: 0, path: Vec::new(), see };
    walk.structure(fields, DEPTH)?;
    Some(walk.at)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    path: Vec<i16>,
    see: &'a mut dyn FnMut(&[i16], i64),
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        self.at = (end <= self.bytes.len()).then_some(end)?;
        Some(())
    }

    /// A number in groups of seven bits, the lowest first.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A number of elements, each of which takes a byte at least.
    fn count(&mut self, count: u64) -> Option<u64> {
        (count <= (self.bytes.len() - self.at) as u64).then_some(count)
    }

    fn structure(&mut self, fields: Fields, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let mut id = 0_i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => i16::try_from(zigzag(self.varint()?)).ok()?,
                step => id.checked_add(i16::from(step))?,
            };
            let expected = fields.iter().find(|(field, _)| *field == id).map(|(_, expected)| expected);
            if matches!(kind, 1 | 2) {
                // A boolean's value lies in its kind.
                matches!(expected, None | Some(Type::Bool)).then_some(())?;
            } else {
                self.path.push(id);
                self.value(kind, expected, depth)?;
                self.path.pop();
            }
        }
    }

    /// Walks over a value that is no boolean, of the `expected` type where its field is known.
    fn value(&mut self, kind: u8, expected: Option<&Type>, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match (kind, expected) {
            (3, None | Some(Type::Byte)) => self.skip(1),
            (4, None | Some(Type::I16)) | (5, None | Some(Type::I32)) | (6, None | Some(Type::I64)) => {
                let number = zigzag(self.varint()?);
                (self.see)(&self.path, number);
                Some(())
            }
            (7, None | Some(Type::Double)) => self.skip(8),
            (8, None | Some(Type::Binary)) => {
                let length = self.varint()?;
                self.skip(length)
            }
            (9 | 10, None | Some(Type::List(_))) => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                let element = if let Some(Type::List(element)) = expected { Some(*element) } else { None };
                for _ in 0..self.count(count)? {
                    self.value(head & 0x0f, element, depth)?;
                }
                Some(())
            }
            (11, None) => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..self.count(count)? {
                    self.value(kinds >> 4, None, depth)?;
                    self.value(kinds & 0x0f, None, depth)?;
                }
                Some(())
            }
            (12, None) => self.structure(&[], depth),
            (12, Some(Type::Struct(fields))) => self.structure(fields, depth),
            (13, None) => self.skip(16),
            // Booleans in lists, which no structure here has, are skipped by the library without taking a byte.
            _ => None,
        }
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_says_its_sizes_and_where_it_ends() {
        // Type 0, 300 bytes unpacked, 42 packed; of a dictionary with a boolean; a field nobody knows; then the page.
        let bytes = [0x15, 0, 0x15, 0xd8, 0x04, 0x15, 84, 0x4c, 0x31, 0, 0x28, 3, b'a', b'b', b'c', 0, 0xff];
        assert_eq!(page_header(&bytes), Some(PageHeader { length: 16, packed: 42, unpacked: 300 }));
        for end in 0..16 {
            assert_eq!(page_header(&bytes[..end]), None, "{end}");
        }
        // A size below 0, none, and one of another type.
        assert_eq!(page_header(&[0x25, 1, 0x15, 84, 0]), None);
        assert_eq!(page_header(&[0x25, 2, 0]), None);
        assert_eq!(page_header(&[0x26, 2, 0x15, 2, 0]), None);
    }

    #[test]
    fn counts_beyond_the_bytes_that_are_left_and_nesting_without_end_are_no_footer() {
        // Fields that nobody knows: a list of three numbers, of booleans, of two thousand million structures; a map; lists
        // in lists.
        assert!(is_footer(&[0x09, 100, 0x35, 1, 2, 1, 0]));
        assert!(!is_footer(&[0x09, 100, 0x31, 1, 2, 1, 0]));
        assert!(!is_footer(&[0x09, 100, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0]));
        assert!(!is_footer(&[0x0b, 100, 0xff, 0xff, 0xff, 0xff, 7, 0x35, 0]));
        assert!(!is_footer(&[&[0x09, 100][..], &[0x19; 1000], &[0; 1000]].concat()));
        assert!(!is_footer(&[]) && is_footer(&[0]));
    }

    #[test]
    fn a_schema_has_no_more_children_than_bytes_and_says_so_in_a_number() {
        // Field 2, a list of one structure, whose field 5 is the number of its children.
        assert!(is_footer(&[0x29, 0x1c, 0x55, 2, 0, 0]));
        assert!(!is_footer(&[0x29, 0x1c, 0x55, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0]));
        assert!(!is_footer(&[0x29, 0x1c, 0x55, 1, 0, 0]));
        assert!(!is_footer(&[0x29, 0x1c, 0x51, 0, 0]));
        assert!(!is_footer(&[0x29, 0x15, 2, 0]));
    }
}
