//! Headers of both versions, right and wrong, whole and cut.

use proptest::prelude::*;

use super::*;

fn ends(source: &str, destination: &str) -> Option<ProxiedClient> {
    Some(ProxiedClient {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    })
}

/// A header of version 2 with these parts.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let size = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family][..], &size, block].concat()
}

fn v4_block() -> Vec<u8> {
    vec![192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 25]
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let size = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &size, value].concat()
}

/// A header with a TLV, the checksum, and another TLV behind it.
fn with_checksum() -> Vec<u8> {
    let parts = [
        v4_block(),
        tlv(0x05, b"id"),
        tlv(CRC32C, &[0; 4]),
        tlv(0x04, &[0; 9]),
    ];
    let mut header = binary(0x21, 0x11, &parts.concat());
    let sum = crc32c::crc32c(&header).to_be_bytes();
    let place = FIXED + 12 + 5 + 3;
    header[place..place + 4].copy_from_slice(&sum);
    header
}

/// The header is read whole, with bytes of the client behind it or not. No part of it is enough.
#[track_caller]
fn check(header: &[u8], client: Option<ProxiedClient>) {
    let length = header.len();
    let expected = Ok(Some(ProxyHeader { length, client }));
    assert_eq!(ProxyHeader::parse(header), expected);
    let more = [header, b"EHLO a\r\n"].concat();
    assert_eq!(ProxyHeader::parse(&more), expected);
    for end in 0..length {
        assert_eq!(ProxyHeader::parse(&header[..end]), Ok(None), "{end}");
    }
}

#[test]
fn lines() {
    for (line, client) in [
        (
            "PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n",
            ends("192.0.2.7:12345", "198.51.100.1:25"),
        ),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n",
            ends("[2001:db8::7]:0", "[2001:db8::1]:65535"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 1 25\r\n",
            ends("192.0.2.7:1", "198.51.100.1:25"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 x y z\r\n", None),
    ] {
        check(line.as_bytes(), client);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX - 16));
    assert_eq!(longest.len(), LINE_MAX);
    check(longest.as_bytes(), None);
}

#[test]
fn wrong_lines() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 25 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1  25\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 1 25\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 25\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 25\r\n",
        "PROXY TCP6 [2001:db8::7] 2001:db8::1 1 25\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 25\r\n",
        "PROXY TCP4 mail.test 198.51.100.1 1 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n",
        "PROXY UNKNOWN\rx\n",
        "PROXY UNKNOWNX\r\n",
    ] {
        let read = ProxyHeader::parse(line.as_bytes());
        assert_eq!(read, Err(ProxyError::Line), "{line:?}");
    }
    assert_eq!(
        ProxyHeader::parse(b"PROXY UNKNOWN \xff\r\n"),
        Err(ProxyError::Line)
    );
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX));
    assert_eq!(
        ProxyHeader::parse(long.as_bytes()),
        Err(ProxyError::TooLong)
    );
}

#[test]
fn other_protocols_are_seen_at_their_first_bytes() {
    for bytes in [
        &b"E"[..],
        b"EHLO a\r\n",
        b"PROXX",
        b"proxy TCP4",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIX",
        b"\rX",
        b"\0",
    ] {
        let shown = bytes.escape_ascii();
        assert_eq!(
            ProxyHeader::parse(bytes),
            Err(ProxyError::Missing),
            "{shown}"
        );
    }
}

#[test]
fn binary_headers() {
    let client = ends("192.0.2.7:12345", "198.51.100.1:25");
    check(&binary(0x21, 0x11, &v4_block()), client);
    check(&with_checksum(), client);
    let tlvs = [v4_block(), tlv(0xee, &[7; 4000]), tlv(0x01, b"")].concat();
    check(&binary(0x21, 0x11, &tlvs), client);
    let longest = [v4_block(), tlv(0x04, &[0; 4096 - 12 - 3])].concat();
    let longest = binary(0x21, 0x11, &longest);
    assert_eq!(longest.len(), PROXY_HEADER_MAX);
    check(&longest, client);

    let (source, destination): (Ipv6Addr, Ipv6Addr) =
        ("2001:db8::7".parse().unwrap(), "::1".parse().unwrap());
    let block = [&source.octets()[..], &destination.octets(), &[0, 1, 0, 25]].concat();
    let client = ends("[2001:db8::7]:1", "[::1]:25");
    check(&binary(0x21, 0x21, &block), client);

    // A proxy that speaks for itself.
    for (family, block) in [
        (0, vec![]),
        (0x11, v4_block()),
        (0x11, vec![1]),
        (0x31, vec![0; 216]),
        (0xff, tlv(CRC32C, &[1; 4])),
    ] {
        check(&binary(0x20, family, &block), None);
    }
}

#[test]
fn wrong_binary_headers() {
    let v4 = v4_block();
    let cut = [v4.clone(), tlv(0x04, &[0; 9])].concat();
    for (command, family, block, expected) in [
        (0x22, 0x11, v4.clone(), ProxyError::Command(0x22)),
        (0x11, 0x11, v4.clone(), ProxyError::Command(0x11)),
        (0x31, 0x11, v4.clone(), ProxyError::Command(0x31)),
        (0x21, 0x00, vec![], ProxyError::Family(0)),
        (0x21, 0x12, v4.clone(), ProxyError::Family(0x12)),
        (0x21, 0x22, vec![0; 36], ProxyError::Family(0x22)),
        (0x21, 0x31, vec![0; 216], ProxyError::Family(0x31)),
        (0x21, 0x11, v4[..11].to_vec(), ProxyError::Short),
        (0x21, 0x21, vec![0; 35], ProxyError::Short),
        (0x21, 0x11, cut[..23].to_vec(), ProxyError::Short),
        (0x21, 0x11, cut[..14].to_vec(), ProxyError::Short),
        (0x21, 0x11, vec![0; 4097], ProxyError::TooLong),
    ] {
        let header = binary(command, family, &block);
        let what = (command, family, block.len());
        assert_eq!(ProxyHeader::parse(&header), Err(expected), "{what:?}");
    }
    // A wrong length is seen before the rest has come.
    let header = binary(0x21, 0x11, &[0; 4097]);
    let read = ProxyHeader::parse(&header[..FIXED]);
    assert_eq!(read, Err(ProxyError::TooLong));
}

#[test]
fn wrong_checksums() {
    let good = with_checksum();
    // Behind the family and the length, each bit counts: those of the checksum, too.
    for at in (FIXED..good.len()).filter(|at| ![29, 30, 33, 34, 35, 41, 42].contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert_eq!(
            ProxyHeader::parse(&bad),
            Err(ProxyError::Checksum),
            "byte {at}"
        );
    }
    let twice = tlv(CRC32C, &[0; 4]).repeat(2);
    for sums in [
        tlv(CRC32C, &[]),
        tlv(CRC32C, &[0; 3]),
        tlv(CRC32C, &[0; 5]),
        twice,
    ] {
        let header = binary(0x21, 0x11, &[v4_block(), sums].concat());
        assert_eq!(ProxyHeader::parse(&header), Err(ProxyError::Checksum));
    }
}

proptest! {
    #[test]
    fn any_client_is_read_from_both_versions(
        source in any::<(u128, u16)>(),
        destination in any::<(u128, u16)>(),
    ) {
        let ip = |(bits, _): (u128, u16)| Ipv6Addr::from_bits(bits);
        let port = |(_, port): (u128, u16)| port.to_be_bytes();
        let client = ProxiedClient {
            source: SocketAddr::new(IpAddr::V6(ip(source)).to_canonical(), source.1),
            destination: SocketAddr::new(
                IpAddr::V6(ip(destination)).to_canonical(),
                destination.1,
            ),
        };
        let line = format!(
            "PROXY TCP6 {} {} {} {}\r\n",
            ip(source), ip(destination), source.1, destination.1
        );
        let block = [
            &ip(source).octets()[..],
            &ip(destination).octets(),
            &port(source),
            &port(destination),
        ];
        for header in [line.into_bytes(), binary(0x21, 0x21, &block.concat())] {
            let read = ProxyHeader::parse(&header).unwrap().unwrap();
            prop_assert_eq!(read, ProxyHeader { length: header.len(), client: Some(client) });
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        begin in prop::sample::select(vec![&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [begin, &rest].concat();
        if let Ok(Some(header)) = ProxyHeader::parse(&bytes) {
            prop_assert!(header.length <= bytes.len());
        }
    }
}
