//! CRC-32 (IEEE 802.3), for headers and records of a few bytes to a few kilobytes.

/// One entry per value of four bits: small enough to stay out of the way of a process that should be tiny.
const TABLE: [u32; 16] = table();

const fn table() -> [u32; 16] {
    let mut table = [0u32; 16];
    let mut i = 0;
    while i < 16 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// The CRC-32 of `parts`, as if they were one slice.
pub(crate) fn crc32(parts: &[&[u8]]) -> u32 {
    let step = |crc: u32, nibble: u8| TABLE[usize::from((crc as u8 ^ nibble) & 15)] ^ (crc >> 4);
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0u32, |crc, byte| step(step(crc, *byte), *byte >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_that_everyone_computes() {
        assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
        assert_eq!(crc32(&[]), 0);
    }
}
