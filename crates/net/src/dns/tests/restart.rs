//! The daemon goes, the sockets stay.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn questions_asked_while_no_daemon_runs_are_answered_by_the_next() {
    let mut place = Place::new(&on(&[1], &[]));
    assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.1.0.2"]);
    let nobody = Dns::open(directory(), limits()).unwrap();
    drop(std::mem::replace(&mut place.dns, nobody));
    tokio::task::yield_now().await;
    let asked = question("web.", RecordType::A).to_vec().unwrap();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(place.udp.local_addr().unwrap()).await.unwrap();
        client.send(&asked).await.unwrap();
        clients.push(client);
    }
    let mut stream = TcpStream::connect(place.tcp.local_addr().unwrap()).await.unwrap();
    stream.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
    stream.write_all(&asked).await.unwrap();
    let mut buffer = [0; 512];
    assert!(timeout(limits().patience, clients[0].recv(&mut buffer)).await.is_err(), "nobody is there");
    place.serve(&container(1), &on(&[1], &[]));
    for client in clients {
        let length = timeout(Duration::from_secs(2), client.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(told(&Message::from_vec(&buffer[..length]).unwrap()), ["10.1.0.2"]);
    }
    assert!(timeout(Duration::from_secs(2), stream.read_u16()).await.unwrap().unwrap() > 12);
}

#[tokio::test]
async fn sockets_that_are_handed_in_again_take_the_place_of_the_first() {
    let place = Place::new(&on(&[1], &[]));
    for _ in 0..20 {
        place.serve(&container(1), &on(&[1], &[]));
        assert_eq!(told(&place.ask("web.", RecordType::A).await), ["10.1.0.2"]);
    }
}
