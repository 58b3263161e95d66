//! A SOCKS5 proxy (RFC 1928) on a loopback port.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A running proxy.
pub struct SocksServer {
    /// Its address.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<SocketAddr>>>,
}

impl SocksServer {
    /// Starts a proxy. `lead` gives where a connection to an address goes, or the code of the
    /// refusal.
    pub async fn start(
        lead: impl Fn(SocketAddr) -> Result<SocketAddr, u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, lead) = (Arc::clone(&asked), Arc::new(lead));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, lead) = (Arc::clone(&noted), Arc::clone(&lead));
                tokio::spawn(async move {
                    // A client that leaves is no failure.
                    let _ = serve(stream, &noted, &*lead).await;
                });
            }
        });
        Self { address, asked }
    }

    /// The addresses to which connections were asked for.
    pub fn asked(&self) -> Vec<SocketAddr> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    asked: &Mutex<Vec<SocketAddr>>,
    lead: &(impl Fn(SocketAddr) -> Result<SocketAddr, u8> + ?Sized),
) -> io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await?;
    let mut methods = vec![0; usize::from(greeting[1])];
    client.read_exact(&mut methods).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0], "not the command CONNECT");
    let ip = match request[3] {
        1 => client.read_u32().await?.to_be_bytes().into(),
        4 => Ipv6Addr::from(client.read_u128().await?).into(),
        other => panic!("an address of kind {other}"),
    };
    let wanted = SocketAddr::new(ip, client.read_u16().await?);
    asked.lock().unwrap().push(wanted);
    match lead(wanted) {
        Ok(to) => {
            let mut host = TcpStream::connect(to).await?;
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            copy_bidirectional(&mut client, &mut host).await?;
        }
        Err(code) => client.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?,
    }
    Ok(())
}
