//! What a service manager hears. By a process of its own: the socket's name is in the environment.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use host::channel::Channel;
use host::notify;

use crate::spawn::{spawn, word};

#[test]
fn the_service_manager_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let abstract_name = format!("veritrail-test-{}", process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let by_name = UnixDatagram::bind_addr(&address).unwrap();
    for (socket, name) in
        [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{abstract_name}"))]
    {
        let (mut child, _channel) = spawn("notifier", &["env", &format!("NOTIFY_SOCKET={name}")]);
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for wanted in ["READY=1", "STATUS=two lines", "STOPPING=1"] {
            let mut buf = [0; 64];
            let len = socket.recv(&mut buf).unwrap();
            assert_eq!(str::from_utf8(&buf[..len]).unwrap(), wanted, "{name}");
        }
        assert!(child.wait().unwrap().success());
    }
    let (mut child, channel) = spawn("notifier", &["env", "-u", "NOTIFY_SOCKET"]);
    assert_eq!(word(&channel), "nobody");
    assert!(child.wait().unwrap().success());
}

pub(crate) fn be_notifier(channel: &Channel) {
    let heard = [
        notify::ready().unwrap(),
        notify::status("two\nlines").unwrap(),
        notify::stopping().unwrap(),
    ];
    if heard == [false; 3] {
        channel.send(b"nobody", &[]).unwrap();
    }
}
