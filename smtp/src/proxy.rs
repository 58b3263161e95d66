//! The header that a proxy sends before the bytes of its client: the PROXY protocol, versions 1 and
//! 2, as `proxy-protocol.txt` of HAProxy describes it.
//!
//! The parser has no I/O. It looks at the bytes that came so far, and says how many belong to the
//! header. It never guesses: bytes that are no header are an error. Who may send a header is the
//! caller's concern.
//!
//! Absent on purpose: datagrams, Unix sockets, and the values of TLVs. A trusted proxy has no
//! reason to send the first two over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1 in bytes, with its CRLF.
const LINE_MAX: usize = 107;
/// The first bytes of version 1.
const LINE_BEGIN: &[u8] = b"PROXY ";
/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of version 2 before the addresses: signature, version and command, family, length.
const FIXED: usize = 16;
/// The most bytes of version 2 after those.
const BLOCK_MAX: u16 = 4096;
/// The type of the TLV that has a CRC32C of the header.
const CRC32C: u8 = 0x03;

/// The longest header in bytes.
pub const PROXY_HEADER_MAX: usize = FIXED + BLOCK_MAX as usize;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The number of bytes that belong to the header. The next byte is the client's first.
    pub length: usize,
    /// The client. None: the proxy speaks for itself (`LOCAL`), or does not know its client
    /// (`UNKNOWN`). Then the addresses of the connection hold.
    pub client: Option<ProxiedClient>,
}

/// The two ends of the connection between a client and its proxy. An IPv4 address within IPv6 is
/// given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedClient {
    /// The address of the client.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The first bytes are of another protocol.
    #[error("the first bytes are no PROXY header")]
    Missing,
    /// The header is longer than it may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A line of version 1 that is malformed.
    #[error("the line of the PROXY header is malformed")]
    Line,
    /// The version or the command is unknown.
    #[error("the PROXY header has an unknown version or command, 0x{0:02x}")]
    Command(u8),
    /// The addresses are not of TCP over IPv4 or IPv6.
    #[error("the PROXY header has addresses of an unknown family, 0x{0:02x}")]
    Family(u8),
    /// The addresses or a TLV do not fit the length.
    #[error("the PROXY header is shorter than its parts")]
    Short,
    /// The checksum is wrong, or there is more than one.
    #[error("the PROXY header has a wrong checksum")]
    Checksum,
}

impl ProxyHeader {
    /// Reads the header at the beginning of `bytes`. None: more bytes have to come.
    ///
    /// # Errors
    /// The bytes are not a header, whatever comes next.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ProxyError> {
        match bytes.first() {
            None => Ok(None),
            Some(b'\r') => version_2(bytes),
            Some(_) => version_1(bytes),
        }
    }
}

/// Checks that `bytes` begin with `begin`, as far as they came.
fn begins(bytes: &[u8], begin: &[u8]) -> Result<(), ProxyError> {
    match bytes.iter().zip(begin).all(|(byte, wanted)| byte == wanted) {
        true => Ok(()),
        false => Err(ProxyError::Missing),
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    begins(bytes, LINE_BEGIN)?;
    let start = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', start) else {
        return match bytes.len() < LINE_MAX {
            true => Ok(None),
            false => Err(ProxyError::TooLong),
        };
    };
    let line = start.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let client = line.ok_or(ProxyError::Line).and_then(line_client)?;
    Ok(Some(ProxyHeader {
        length: end + 1,
        client,
    }))
}

/// The client in a line of version 1.
fn line_client(line: &str) -> Result<Option<ProxiedClient>, ProxyError> {
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        // The rest of the line has no meaning.
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(ProxyError::Line),
    };
    let words = [(); 5].map(|()| words.next());
    let [Some(source), Some(destination), Some(from), Some(to), None] = words else {
        return Err(ProxyError::Line);
    };
    let address = |word: &str| {
        let address: IpAddr = word.parse().ok()?;
        (address.is_ipv4() == is_v4).then_some(address.to_canonical())
    };
    let end = |ip, number| Some(SocketAddr::new(address(ip)?, port(number)?));
    let ends = end(source, from).zip(end(destination, to));
    let (source, destination) = ends.ok_or(ProxyError::Line)?;
    Ok(Some(ProxiedClient {
        source,
        destination,
    }))
}

/// A port in decimal digits, without a leading zero.
fn port(word: &str) -> Option<u16> {
    let is_plain =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    is_plain.then(|| word.parse().ok())?
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    begins(bytes, SIGNATURE)?;
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyError::Command(other)),
    };
    let size = u16::from_be_bytes([high, low]);
    if size > BLOCK_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(block) = rest.get(..usize::from(size)) else {
        return Ok(None);
    };
    let length = FIXED + block.len();
    // A proxy that speaks for itself may send any block, which has no meaning.
    if is_local {
        let client = None;
        return Ok(Some(ProxyHeader { length, client }));
    }
    let (client, tlvs) = match family {
        0x11 => v4(block),
        0x21 => v6(block),
        other => return Err(ProxyError::Family(other)),
    }
    .ok_or(ProxyError::Short)?;
    check_tlvs(bytes.get(..length).unwrap_or_default(), tlvs)?;
    let client = Some(client);
    Ok(Some(ProxyHeader { length, client }))
}

fn v4(block: &[u8]) -> Option<(ProxiedClient, &[u8])> {
    let (addresses, rest) = block.split_first_chunk::<12>()?;
    let [a, b, c, d, e, f, g, h, from @ .., to_high, to_low] = *addresses;
    let end = |ip, port| SocketAddr::new(IpAddr::V4(ip), u16::from_be_bytes(port));
    let client = ProxiedClient {
        source: end(Ipv4Addr::new(a, b, c, d), from),
        destination: end(Ipv4Addr::new(e, f, g, h), [to_high, to_low]),
    };
    Some((client, rest))
}

fn v6(block: &[u8]) -> Option<(ProxiedClient, &[u8])> {
    let (source, rest) = block.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, rest) = rest.split_first_chunk::<2>()?;
    let end = |ip: [u8; 16], port| {
        let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(port))
    };
    let client = ProxiedClient {
        source: end(*source, *from),
        destination: end(*destination, *to),
    };
    Some((client, rest))
}

/// Checks the lengths of the TLVs, which end the `header`, and its checksum if one of them has it.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), ProxyError> {
    let mut rest = tlvs;
    let mut checked = false;
    while !rest.is_empty() {
        let (start, behind) = rest.split_first_chunk::<3>().ok_or(ProxyError::Short)?;
        let [kind, high, low] = *start;
        let size = usize::from(u16::from_be_bytes([high, low]));
        let (value, behind) = behind.split_at_checked(size).ok_or(ProxyError::Short)?;
        if kind == CRC32C {
            let given: [u8; 4] = value.try_into().map_err(|_| ProxyError::Checksum)?;
            // The checksum is that of the header with zeros in its place.
            let before = header.len() - behind.len() - value.len();
            let before = header.get(..before).unwrap_or_default();
            let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
            let sum = crc32c::crc32c_append(sum, behind);
            if checked || sum != u32::from_be_bytes(given) {
                return Err(ProxyError::Checksum);
            }
            checked = true;
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
