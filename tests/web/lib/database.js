// PostgreSQL for tests of several replicas: a server of its own on a free port, with its data in a
// temporary directory.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Debian keeps the programs out of PATH.
const VERSIONS = "/usr/lib/postgresql";

function programs() {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS).map(Number) : [];
  const newest = versions.filter((version) => existsSync(`${VERSIONS}/${version}/bin/initdb`)).sort((a, b) => b - a)[0];
  if (!newest) throw new Error("PostgreSQL is missing: run `apt-get install postgresql`");
  return `${VERSIONS}/${newest}/bin`;
}

/** Runs a program to its end, as the server's user if this process is root, because PostgreSQL refuses root. */
function run(program, args) {
  const [command, ...rest] = process.getuid() === 0 ? ["runuser", "-u", "postgres", "--", program] : [program];
  // Not a pipe: a server that the program starts would keep it open.
  execFileSync(command, [...rest, ...args], { stdio: "ignore" });
}

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A running server. */
export class Database {
  static running = new Set();

  static async start() {
    const database = new Database();
    database.directory = mkdtempSync(join(tmpdir(), "stockbridge-web-postgres-"));
    if (process.getuid() === 0) execFileSync("chown", ["postgres", database.directory]);
    database.programs = programs();
    database.data = join(database.directory, "data");
    run(join(database.programs, "initdb"), ["--auth=trust", "--username=stock", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata", database.data]);
    const port = await freePort();
    const options = `-c listen_addresses=127.0.0.1 -c fsync=off -p ${port} -k ${database.directory}`;
    run(join(database.programs, "pg_ctl"), ["start", "--wait", "--pgdata", database.data, "--log", join(database.directory, "log"), "--options", options]);
    database.isRunning = true;
    Database.running.add(database);
    database.url = `postgres://stock@127.0.0.1:${port}/postgres?sslmode=disable`;
    return database;
  }

  /** Stops the server as a crash does. */
  halt() {
    if (!this.isRunning) return;
    run(join(this.programs, "pg_ctl"), ["stop", "--mode=immediate", "--wait", "--pgdata", this.data]);
    this.isRunning = false;
  }

  stop() {
    this.halt();
    Database.running.delete(this);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

// A failed test must not leave a server behind.
process.on("exit", () => {
  for (const database of Database.running) database.stop();
});
