//! The images and the jobs. A job prints `42` on a line of its own when it has done what it is for.

/// The profiles, in the order of the page.
pub(crate) const PROFILES: [&str; 3] = ["default", "strict", "docker"];

/// A root file system of Debian packages.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) packages: &'static [&'static str],
}

/// One kind of image, and what it is there for.
pub(crate) struct Job {
    /// The kind.
    pub(crate) name: &'static str,
    /// What is done, for the page.
    pub(crate) what: &'static str,
    /// The image that has the packages.
    pub(crate) image: &'static str,
    /// For `sh`; ends at the first command that fails.
    pub(crate) script: &'static str,
    /// The profiles under which it is known not to work.
    pub(crate) broken_by: &'static [&'static str],
    /// And why.
    pub(crate) why: &'static str,
}

/// The images: jobs of one sort share one, so that making them takes minutes and not an hour.
pub(crate) const IMAGES: &[Image] = &[
    Image {
        name: "databases",
        packages: &["postgresql", "mariadb-server", "redis-server", "memcached", "netcat-openbsd"],
    },
    Image {
        name: "servers",
        packages: &[
            "nginx-light",
            "apache2",
            "curl",
            "openssh-server",
            "openssh-client",
            "rsync",
            "cron",
            "sudo",
            "iputils-ping",
            "tcpdump",
        ],
    },
    Image {
        name: "languages",
        packages: &[
            "python3",
            "nodejs",
            "perl",
            "ruby",
            "gcc",
            "libc6-dev",
            "make",
            "git",
            "strace",
            "gdb",
            "tini",
            "dumb-init",
        ],
    },
];

/// The jobs.
pub(crate) const JOBS: &[Job] = &[
    Job {
        name: "postgresql",
        what: "initdb, start, query, stop, as its own user",
        image: "databases",
        script: r#"install -d -o postgres /tmp/db; P=$(echo /usr/lib/postgresql/*/bin)
            as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
            as $P/initdb -D /tmp/db; as $P/pg_ctl -D /tmp/db -o '-k /tmp' -w -l /tmp/log start
            as $P/psql -h /tmp -Atc 'select 6*7' postgres; as $P/pg_ctl -D /tmp/db -m fast stop"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "mariadb",
        what: "install-db, start with native AIO, query, stop",
        image: "databases",
        script: r#"install -d -o mysql /tmp/db; mariadb-install-db --user=mysql --datadir=/tmp/db >/dev/null
            mariadbd --no-defaults --user=mysql --datadir=/tmp/db --skip-networking --socket=/tmp/m 2>/tmp/log &
            for i in $(seq 100); do mariadb -S /tmp/m -Ne 'select 6*7' && break; sleep 0.3; done
            mariadb-admin -S /tmp/m shutdown || { tail -9 /tmp/log; exit 1; }; wait"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "redis",
        what: "serve on loopback, set and get, save to disk",
        image: "databases",
        script: r#"cd /tmp; redis-server --port 6379 --daemonize yes >/dev/null
            for i in $(seq 50); do redis-cli ping >/dev/null 2>&1 && break; sleep 0.1; done
            redis-cli set answer 42; redis-cli bgsave; sleep 1; redis-cli get answer; redis-cli shutdown"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "memcached",
        what: "serve on loopback, set and get",
        image: "databases",
        script: r#"memcached -d -u nobody -l 127.0.0.1; sleep 0.5
            printf 'set a 0 0 2\r\n42\r\nget a\r\nquit\r\n' | nc 127.0.0.1 11211 | tr -d '\r'"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "nginx",
        what: "bind port 80, drop to www-data, serve a file",
        image: "servers",
        script: r#"echo 42 >/var/www/html/x; nginx; curl -sS http://127.0.0.1/x; nginx -s quit"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "apache2",
        what: "bind port 80, drop to www-data, serve a file",
        image: "servers",
        script: r#"echo 42 >/var/www/html/x; apachectl start; sleep 1
            curl -sS http://127.0.0.1/x; apachectl stop"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "sshd",
        what: "serve on port 22, log in by key, run a command",
        image: "servers",
        script: r#"mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh; ssh-keygen -qA
            ssh-keygen -qt ed25519 -N '' -f /root/.ssh/id_ed25519
            cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys; /usr/sbin/sshd
            ssh -o StrictHostKeyChecking=no root@127.0.0.1 echo 42"#,
        broken_by: &["strict"],
        why: "sshd shuts its unprivileged half into an empty directory: SYS_CHROOT",
    },
    Job {
        name: "rsync",
        what: "daemon on loopback, copy with owners and times",
        image: "servers",
        script: r#"mkdir /tmp/a; echo 42 >/tmp/a/x; chown nobody /tmp/a/x
            printf 'use chroot = no\n[a]\npath = /tmp/a\nuid = 0\ngid = 0\n' >/tmp/c
            rsync --daemon --config=/tmp/c; sleep 0.3
            rsync -a rsync://127.0.0.1/a/ /tmp/b/; test $(stat -c %U /tmp/b/x) = nobody; cat /tmp/b/x"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "cron",
        what: "run a job of a user in the next minute",
        image: "servers",
        script: r#"echo '* * * * * nobody echo 42 >/tmp/out' >/etc/cron.d/x; cron
            for i in $(seq 70); do test -s /tmp/out && break; sleep 1; done; cat /tmp/out"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "sudo",
        what: "an ordinary user becomes root",
        image: "servers",
        script: r#"echo 'nobody ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/x
            test $(setpriv --reuid nobody --regid nogroup --clear-groups sudo -n id -u) = 0; echo 42"#,
        broken_by: &["strict"],
        why: "no_new_privs is there to stop exactly this",
    },
    Job {
        name: "ping",
        what: "an ordinary user pings loopback",
        image: "servers",
        script: r#"setpriv --reuid nobody --regid nogroup --clear-groups ping -c1 127.0.0.1 >/dev/null; echo 42"#,
        broken_by: &["strict"],
        why: "Debian's ping carries the capability NET_RAW, and the kernel executes no such file outside the bounding set",
    },
    Job {
        name: "tcpdump",
        what: "capture a packet on loopback",
        image: "servers",
        script: r#"timeout 20 tcpdump -Z root -i lo -c1 -w /tmp/p icmp & sleep 2; ping -c3 127.0.0.1 >/dev/null
            wait $!; test -s /tmp/p; echo 42"#,
        broken_by: &["strict"],
        why: "packet sockets: NET_RAW; `--cap-add NET_RAW` brings them back",
    },
    Job {
        name: "apt-get",
        what: "update and install from a repository on disk",
        image: "servers",
        script: r#"mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /srv/r; printf '#!/bin/sh\necho 42\n' >/tmp/p/usr/bin/answer
            chmod 755 /tmp/p/usr/bin/answer; cd /srv/r
            F='Package: answer\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n'
            printf "$F" >/tmp/p/DEBIAN/control; dpkg-deb -b /tmp/p answer.deb >/dev/null
            { printf "$F"; echo "Filename: ./answer.deb"; echo "Size: $(stat -c %s answer.deb)"
              echo "SHA256: $(sha256sum answer.deb | cut -d' ' -f1)"; } >Packages
            rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
            echo 'deb [trusted=yes] file:/srv/r ./' >/etc/apt/sources.list
            apt-get -qq update; apt-get -qq install -y answer; answer"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "python",
        what: "threads, processes with a queue, sqlite, an asyncio server",
        image: "languages",
        script: r#"cat >/tmp/x.py <<'END'
import asyncio, multiprocessing, sqlite3, subprocess, threading
def half(q): q.put(20)
async def served():
    async def talk(r, w):
        w.write(b'1'); w.close()
    server = await asyncio.start_server(talk, '127.0.0.1', 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    return int(await r.read())
if __name__ == '__main__':
    q = multiprocessing.Queue(); p = multiprocessing.Process(target=half, args=(q,)); p.start(); n = q.get(); p.join()
    t = threading.Thread(target=lambda: None); t.start(); t.join()
    n += sqlite3.connect('/tmp/d').execute('select 20').fetchone()[0]
    n += int(subprocess.check_output(['echo', '1'])) + asyncio.run(served())
    print(n)
END
            python3 /tmp/x.py"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "node",
        what: "an HTTP server, a client, a worker thread",
        image: "languages",
        script: r#"cat >/tmp/x.js <<'END'
const { Worker } = require('worker_threads'), http = require('http');
const w = new Worker('require("worker_threads").parentPort.postMessage(2)', { eval: true });
w.on('message', two => { const s = http.createServer((q, a) => a.end('40')).listen(0, '127.0.0.1', () =>
  http.get({ port: s.address().port, host: '127.0.0.1' }, r => r.on('data', d => { console.log(+d + two); s.close(); }))); });
END
            node /tmp/x.js"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "perl",
        what: "fork, pipe, a socket pair",
        image: "languages",
        script: r#"perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; my $p = fork;
            if (!$p) { syswrite(B, "42\n"); exit } sysread(A, my $x, 9); waitpid($p, 0); print $x'"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "ruby",
        what: "threads, fork, a TCP server",
        image: "languages",
        script: r#"ruby -rsocket -e 's = TCPServer.new("127.0.0.1", 0); t = Thread.new { c = s.accept; c.puts 42; c.close }
            Process.wait(fork { puts TCPSocket.new("127.0.0.1", s.addr[1]).gets }); t.join'"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "gcc, make",
        what: "build in parallel and run",
        image: "languages",
        script: r#"mkdir /tmp/b; cd /tmp/b; for n in a b c d; do echo "int $n(void){return 10;}" >$n.c; done
            printf '#include <stdio.h>\nint a(),b(),c(),d();int main(){printf("%%d\\n",a()+b()+c()+d()+2);}' >m.c
            printf 'x: a.o b.o c.o d.o m.o\n\tcc -o x $^\n' >Makefile; make -sj4; ./x"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "git",
        what: "commit, clone, repack",
        image: "languages",
        script: r#"cd /tmp; git init -q a; cd a; echo 42 >x; git add x
            git -c user.name=x -c user.email=x commit -qm x; git repack -adq; git clone -q /tmp/a /tmp/c; cat /tmp/c/x"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "tini",
        what: "reap an orphan, pass a signal on",
        image: "languages",
        script: r#"tini -s -- sh -c '(sleep 0.1 &) ; sleep 0.3; echo 42'"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "dumb-init",
        what: "run a program in a session of its own",
        image: "languages",
        script: r#"dumb-init sh -c 'echo 42'"#,
        broken_by: &[],
        why: "",
    },
    Job {
        name: "strace",
        what: "trace a program and its children",
        image: "languages",
        script: r#"strace -f -o /tmp/t sh -c true; grep -q exit_group /tmp/t; echo 42"#,
        broken_by: &["strict"],
        why: "ptrace; `--cap-add SYS_PTRACE` brings it back",
    },
    Job {
        name: "gdb",
        what: "stop a program at its start and let it end",
        image: "languages",
        script: r#"gdb -q -batch -ex 'set startup-with-shell off' -ex starti -ex continue /bin/true >/tmp/g 2>&1
            grep -q 'exited normally' /tmp/g; echo 42"#,
        broken_by: &["strict"],
        why: "ptrace; `--cap-add SYS_PTRACE` brings it back",
    },
];
