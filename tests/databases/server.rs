//! Private database servers for tests: started on free ports and stopped on drop.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Running server, stopped on drop.
pub(crate) struct DatabaseServer {
    url: String,
    directory: TempDir,
    kind: DatabaseKind,
}

enum DatabaseKind {
    PostgreSql {
        programs: PathBuf,
        port: u16,
        options: &'static str,
    },
    MariaDb(Child),
}

impl DatabaseServer {
    /// Starts PostgreSQL. It does not wait for the disk, to be fast.
    pub(crate) fn postgresql() -> Self {
        Self::postgresql_with("-c fsync=off")
    }

    /// Starts PostgreSQL with further options of its command line.
    pub(crate) fn postgresql_with(options: &'static str) -> Self {
        let programs = postgresql_programs();
        let (directory, port) = (owned_directory("postgres"), free_port());
        let data = directory.path().join("data");
        let init = [
            "--auth=trust",
            "--username=reader",
            "--encoding=UTF8",
            "--locale=C",
        ];
        run(as_user("postgres", &programs.join("initdb"))
            .args(init)
            .args(["--no-sync", "--pgdata"])
            .arg(&data));
        let url = format!("postgres://reader@127.0.0.1:{port}/postgres?sslmode=disable");
        let server = Self {
            url,
            directory,
            kind: DatabaseKind::PostgreSql {
                programs,
                port,
                options,
            },
        };
        server.start();
        server
    }

    /// Starts a standby of this PostgreSQL, as a copy of its data that follows it.
    pub(crate) fn standby(&self) -> Self {
        let (programs, primary) = self.postgresql_parts();
        let (directory, port) = (owned_directory("postgres"), free_port());
        let data = directory.path().join("data");
        run(as_user("postgres", &programs.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--wal-method=stream"])
            .args(["--checkpoint=fast", "--no-sync", "--username=reader"])
            .args(["--host=127.0.0.1", &format!("--port={primary}"), "--pgdata"])
            .arg(&data));
        let standby = Self {
            url: self
                .url
                .replace(&format!(":{primary}/"), &format!(":{port}/")),
            directory,
            kind: DatabaseKind::PostgreSql {
                programs: programs.to_owned(),
                port,
                options: self.options(),
            },
        };
        standby.start();
        standby
    }

    /// Sets up a standby of this PostgreSQL that receives no further changes.
    pub(crate) fn standby_that_stays_behind(&self) -> Self {
        let standby = self.standby();
        standby.stop_in_mode("fast");
        // The last setting of a name counts.
        let settings = standby.directory.path().join("data/postgresql.auto.conf");
        let mut file = std::fs::File::options()
            .append(true)
            .open(settings)
            .unwrap();
        file.write_all(b"primary_conninfo = ''\n").unwrap();
        standby.start();
        standby
    }

    /// Makes a standby the primary server. Returns when it accepts changes.
    pub(crate) fn promote(&self) {
        let (programs, _) = self.postgresql_parts();
        run(as_user("postgres", &programs.join("pg_ctl"))
            .args(["promote", "--wait", "--pgdata"])
            .arg(self.directory.path().join("data")));
    }

    /// Returns the address of the server.
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, port) = self.postgresql_parts();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn postgresql_parts(&self) -> (&Path, u16) {
        match &self.kind {
            DatabaseKind::PostgreSql { programs, port, .. } => (programs, *port),
            DatabaseKind::MariaDb(_) => panic!("only PostgreSQL can do that"),
        }
    }

    fn options(&self) -> &'static str {
        match &self.kind {
            DatabaseKind::PostgreSql { options, .. } => options,
            DatabaseKind::MariaDb(_) => "",
        }
    }

    /// Starts PostgreSQL again. Returns when it accepts connections.
    pub(crate) fn start(&self) {
        let (programs, port) = self.postgresql_parts();
        let directory = self.directory.path();
        let options = format!(
            "-c listen_addresses=127.0.0.1 {} -p {port} -k {}",
            self.options(),
            directory.display()
        );
        run(as_user("postgres", &programs.join("pg_ctl"))
            .args(["start", "--wait", "--pgdata"])
            .arg(directory.join("data"))
            .arg("--log")
            .arg(directory.join("log"))
            .args(["--options", &options]));
    }

    /// Stops PostgreSQL as a crash does.
    pub(crate) fn stop(&self) {
        self.stop_in_mode("immediate");
    }

    /// Stops PostgreSQL in a mode of `pg_ctl`: `fast` ends connections in order, `immediate` is a
    /// crash.
    pub(crate) fn stop_in_mode(&self, mode: &str) {
        let (programs, _) = self.postgresql_parts();
        run(as_user("postgres", &programs.join("pg_ctl"))
            .args(["stop", "--mode", mode, "--wait", "--pgdata"])
            .arg(self.directory.path().join("data")));
    }

    /// Keeps a copy of the data of a stopped PostgreSQL.
    pub(crate) fn keep_data(&self) {
        let directory = self.directory.path();
        run(Command::new("cp")
            .arg("--archive")
            .args([directory.join("data"), directory.join("kept")]));
    }

    /// Brings a stopped PostgreSQL back to the kept copy.
    pub(crate) fn go_back_to_kept_data(&self) {
        let directory = self.directory.path();
        std::fs::remove_dir_all(directory.join("data")).unwrap();
        std::fs::rename(directory.join("kept"), directory.join("data")).unwrap();
    }

    /// Starts MariaDB.
    pub(crate) fn mariadb() -> Self {
        let (directory, port) = (owned_directory("mysql"), free_port());
        let data = directory.path().join("data");
        let socket = directory.path().join("socket");
        run(as_user("mysql", Path::new("mariadb-install-db"))
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display())));
        let child = as_user("mysql", &mariadb_daemon())
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadbd must be installed: apt-get install mariadb-server");
        let url = format!("mysql://root@127.0.0.1:{port}/mysql?ssl-mode=DISABLED");
        let server = Self {
            url,
            directory,
            kind: DatabaseKind::MariaDb(child),
        };
        // Retries every second until the server accepts connections.
        run(Command::new("mariadb-admin")
            .args(["--no-defaults", "--user=root", "--wait=30"])
            .arg(format!("--socket={}", socket.display()))
            .arg("ping"));
        server
    }

    /// Returns the URL of the server, with its user.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        match &mut self.kind {
            DatabaseKind::PostgreSql { programs, .. } => {
                let stop = as_user("postgres", &programs.join("pg_ctl"))
                    .args(["stop", "--mode=immediate", "--wait", "--pgdata"])
                    .arg(self.directory.path().join("data"))
                    .stdout(Stdio::null())
                    .status();
                drop(stop);
            }
            DatabaseKind::MariaDb(child) => {
                // Only the child itself: it has no other children, and `runuser` forwards the
                // signal.
                let stop = Command::new("kill").arg(child.id().to_string()).status();
                drop(stop);
                drop(child.wait());
            }
        }
    }
}

/// Returns the directory of PostgreSQL's programs, which Debian keeps out of `PATH`.
fn postgresql_programs() -> PathBuf {
    let entries = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = entries.map(|entry| entry.path());
    let newest = versions
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version);
    newest.unwrap_or_default().join("bin")
}

fn mariadb_daemon() -> PathBuf {
    let known = Path::new("/usr/sbin/mariadbd");
    if known.exists() {
        known.to_owned()
    } else {
        PathBuf::from("mariadbd")
    }
}

/// Returns true if this process runs as root, judged by the owner of a new file.
fn is_root() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().metadata().unwrap().uid() == 0
}

/// Returns a command that runs as `user` if this process is root, because the servers refuse root.
fn as_user(user: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--"]).arg(program);
    command
}

/// Creates a directory that the server's user owns.
fn owned_directory(user: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    if is_root() {
        run(Command::new("chown").arg(user).arg(directory.path()));
    }
    directory
}

/// Returns a port that was free a moment ago, because the servers cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a program to its end and requires success.
fn run(command: &mut Command) {
    let name = format!("{command:?}");
    // Not a pipe: a server that the program starts would keep it open.
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = || log.reopen().unwrap();
    let status = command
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .status();
    let status = status.unwrap_or_else(|error| {
        panic!("{name}: {error}; install it with apt-get install postgresql mariadb-server")
    });
    let output_text = || std::fs::read_to_string(log.path()).unwrap_or_default();
    assert!(status.success(), "{name}: {status}\n{}", output_text());
}
