"""Other languages' runtimes, each with its own ideas of threads, signals, memory and descriptors: Perl, Ruby, Lua, Tcl, Node, Java."""

from __future__ import annotations

import textwrap

import pytest
from side_by_side import Same

import support

PERL = {
    "file tests": 'print join(",", map { -e $_ ? "e" : "-", -d _ ? "d" : "-", -s _ || 0, -l $_ ? "l" : "-" } qw(fruit.txt sub link none)), "\\n"',
    "sprintf and pack": 'printf "%s %05.2f %x %b %-5s|\\n", "a", 3.14159, 255, 5, "ab"; print unpack("H*", pack("NnCa4", 1, 2, 3, "abcd")), "\\n"',
    "sockets": """
        use Socket; use IO::Socket::UNIX;
        socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die $!;
        if (!fork) { close $a; syswrite $b, "child " . <$b>; exit 0 }
        close $b; syswrite $a, "question\\n"; print scalar <$a>; wait;
        my $s = IO::Socket::UNIX->new(Local => "sock", Listen => 1) or die $!;
        if (!fork) { my $c = IO::Socket::UNIX->new("sock"); print $c "over a name\\n"; exit 0 }
        my $c = $s->accept; print <$c>; wait; unlink "sock";
        """,
    "many children": 'my $n = 0; for my $i (1 .. 20) { fork or exit $i } while (wait > 0) { $n += $? >> 8 } print "$n\\n"',
    "pipes both ways": """
        use IPC::Open3; my $pid = open3(my $in, my $out, undef, "sort", "-r"); print $in "b\\na\\nc\\n"; close $in; print <$out>;
        waitpid $pid, 0; print $?, "\\n"; print `echo back; exit 3`, $? >> 8, "\\n"; system("kill -9 \\$\\$"); print $? & 127, "\\n";
        """,
    "signals": """
        my @got; $SIG{$_} = sub { push @got, $_[0] } for qw(USR1 USR2 HUP); kill $_ => $$ for qw(USR1 USR2 HUP); print "@got\\n";
        local $SIG{ALRM} = sub { die "alarm\\n" }; eval { alarm 1; select undef, undef, undef, 5; }; print $@;
        """,
    "directories": """
        use File::Find; use File::Temp; use File::Copy; use Cwd; my @f; find(sub { push @f, $File::Find::name }, "sub"); print join(",", sort @f), "\\n";
        mkdir "d"; copy("fruit.txt", "d/f"); opendir my $d, "d"; print grep(!/^\\./, readdir $d), "\\n"; rename "d/f", "g"; rmdir "d"; print -s "g", "\\n";
        """,
    "locks": 'use Fcntl ":flock"; open my $f, ">", "l"; print flock($f, LOCK_EX | LOCK_NB), "\\n"; if (!fork) { open my $g, ">", "l"; print flock($g, LOCK_EX | LOCK_NB) ? "got" : "busy", "\\n"; exit } wait',
    "threads": 'use threads; print join(",", map { $_->join } map { my $n = $_; threads->create(sub { $n * $n }) } 1 .. 4), "\\n"',
    "deep data": 'my %h; $h{$_ % 1000}{$_} = "x" x ($_ % 50) for 1 .. 50000; print scalar(keys %h), " ", length(join "", map { values %{$h{$_}} } sort keys %h), "\\n"',
    "die": 'warn "careful\\n"; die "dead\\n"',
    "environment": '$ENV{X} = "from perl"; print `printenv X`; print exists $ENV{NOPE} ? 1 : 0, "\\n"; exec "echo", "replaced"',
}
RUBY = {
    "threads": "q = Queue.new; t = 4.times.map { |i| Thread.new { 100.times { |n| q << n * i } } }; t.each(&:join); s = 0; s += q.pop until q.empty?; puts s",
    "fork and pipes": 'r, w = IO.pipe; if fork then w.close; puts r.read; Process.wait; puts $?.exitstatus else r.close; w.write "from child"; exit! 6 end',
    "backquotes": 'puts `echo $((6 * 7))`, $?.success?; puts IO.popen(["sort", "fruit.txt"]).read',
    "signals": 'trap("USR1") { puts "got it" }; Process.kill("USR1", Process.pid); sleep 0.05; Process.kill("TERM", Process.pid); sleep 1',
    "sockets": 'require "socket"; s = UNIXServer.new("sock"); t = Thread.new { c = s.accept; c.puts c.gets.upcase; c.close }; c = UNIXSocket.new("sock"); c.puts "hi"; puts c.read; t.join',
    "files": 'require "fileutils"; require "tempfile"; FileUtils.mkdir_p "a/b"; File.write "a/b/c", "x"; puts Dir["**/c"]; Tempfile.create { |f| f.puts 1; f.flush; puts File.size(f) }',
    "garbage": "a = []; 200_000.times { |n| a << n.to_s * 3; a = [] if a.size > 1000 }; GC.start; puts a.size",
}
LUA = {
    "tables": "local t = {} for i = 1, 1e5 do t[i] = i * i end local s = 0 for _, v in ipairs(t) do s = s + v end print(s)",
    "coroutines": "local f = coroutine.wrap(function(a) while true do a = coroutine.yield(a * 2) end end) print(f(1), f(2), f(3))",
    "files": 'for l in io.lines("fruit.txt") do io.write(l:upper(), " ") end local p = io.popen("sort -r fruit.txt") print(p:read("a")) print(p:close())',
    "status": "os.execute('exit 3') os.remove('fruit.txt') print(io.open('fruit.txt')) os.exit(9)",
}
NODE = {
    "event loop": "setTimeout(() => console.log('timeout'), 500); setImmediate(() => console.log('immediate')); process.nextTick(() => console.log('tick')); Promise.resolve().then(() => console.log('micro')); console.log('main')",
    "files": "const fs = require('fs'); fs.mkdirSync('d/e', { recursive: true }); fs.writeFileSync('d/e/f', 'x'.repeat(1000)); fs.promises.stat('d/e/f').then(s => { console.log(s.size); fs.rmSync('d', { recursive: true }); console.log(fs.readdirSync('.').sort().join()) })",
    "children": "const c = require('child_process'); console.log(c.execSync('echo child').toString()); const p = c.spawn('sort', ['fruit.txt']); p.stdout.on('data', d => console.log(d.toString())); p.on('close', s => { console.log('status', s); c.exec('kill -9 $$', e => console.log(e.signal)) })",
    "streams": "const z = require('zlib'), s = require('stream'); const d = z.gzipSync(Buffer.alloc(1 << 20, 'abc')); s.pipeline(s.Readable.from([d]), z.createGunzip(), async function* (i) { let n = 0; for await (const c of i) n += c.length; console.log(n) }, e => console.log(e ?? 'done'))",
    "unix socket": "const n = require('net'); const s = n.createServer(c => c.end('hello')).listen('sock', () => { let t = ''; n.connect('sock').on('data', d => t += d).on('end', () => { console.log(t); s.close() }) })",
    "workers": "const { Worker, isMainThread, parentPort } = require('worker_threads'); const w = new Worker('require(\"worker_threads\").parentPort.postMessage(6 * 7)', { eval: true }); w.on('message', m => console.log(m)); w.on('exit', c => console.log('exit', c))",
    "crypto": "const c = require('crypto'); console.log(c.createHash('sha256').update('x').digest('hex')); c.pbkdf2('p', 's', 1000, 16, 'sha1', (e, k) => console.log(k.toString('hex'))); console.log(c.randomBytes(8).length)",
    "exit status": "process.on('exit', c => console.log('bye', c)); process.exitCode = 5",
    "signal": "process.on('SIGUSR2', () => { console.log('caught'); process.exit(3) }); process.kill(process.pid, 'SIGUSR2'); setTimeout(() => {}, 5000)",
}
TCL = """
proc fib n { expr {$n < 2 ? $n : [fib [expr {$n - 1}]] + [fib [expr {$n - 2}]]} }
puts [fib 15]
set f [open fruit.txt]; puts [lsort [split [string trim [read $f]] \\n]]; close $f
puts [exec sort -u fruit.txt]
catch {exec false} message; puts $message
after 20 {set done 1}; vwait done; puts $done
file mkdir d; puts [file isdirectory d]; exit 4
"""
JAVA = """
import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
class Main {
    public static void main(String[] args) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        var jobs = IntStream.range(0, 50).mapToObj(n -> pool.submit(() -> n * n)).collect(Collectors.toList());
        int sum = 0; for (var job : jobs) sum += job.get();
        pool.shutdown();
        System.out.println(sum + " " + IntStream.range(0, 1000000).parallel().mapToLong(n -> n).sum());
        System.out.println(new String(new ProcessBuilder("echo", "child").start().getInputStream().readAllBytes()).trim());
        Files.writeString(Path.of("out"), "written"); System.out.println(Files.readString(Path.of("out")));
        var garbage = new ArrayList<byte[]>();
        for (int i = 0; i < 2000; i++) { garbage.add(new byte[100000]); if (garbage.size() > 50) garbage.clear(); }
        try { ((Object) null).toString(); } catch (NullPointerException e) { System.out.println("caught"); }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.exit(sum % 7);
    }
}
"""


def run(same: Same, program: str, options: list[str], script: str, **kwargs: object) -> None:
    if reason := support.have(program):
        pytest.skip(reason)
    same([program, *options, textwrap.dedent(script)], timeout_s=120, **kwargs)


@pytest.mark.parametrize("script", PERL.values(), ids=PERL.keys())
def test_perl(script: str, same: Same) -> None:
    run(same, "perl", ["-e"], script)


@pytest.mark.parametrize("script", RUBY.values(), ids=RUBY.keys())
def test_ruby(script: str, same: Same) -> None:
    run(same, "ruby", ["-e"], script)


@pytest.mark.parametrize("script", LUA.values(), ids=LUA.keys())
def test_lua(script: str, same: Same) -> None:
    run(same, "lua5.4", ["-e"], script)


@pytest.mark.parametrize("script", NODE.values(), ids=NODE.keys())
def test_node(script: str, same: Same) -> None:
    run(same, "node", ["-e"], script)


def test_tcl(same: Same) -> None:
    if reason := support.have("tclsh"):
        pytest.skip(reason)
    same(["tclsh"], stdin=TCL, expect=4)


def test_java(same: Same) -> None:
    if reason := support.have("java", "javac"):
        pytest.skip(reason)
    same("cat >Main.java && javac Main.java && java -Xmx256m Main", stdin=JAVA, timeout_s=240, expect=40425 % 7)


def test_java_version(same: Same) -> None:
    if reason := support.have("java"):
        pytest.skip(reason)
    same(["java", "-version"])
