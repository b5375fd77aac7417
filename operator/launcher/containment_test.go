package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func hasLine(output []byte, line string) bool {
	return bytes.Contains(append([]byte("\n"), output...), []byte("\n"+line+"\n"))
}

func TestTheLauncherIsOutOfReach(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		r := newRun(t, pid1, testcode, "attack").do()
		for _, attempt := range []string{"write fd/1", "write mem", "write environ", "list fd", "read exe", "ptrace", "prlimit"} {
			if !hasLine(r.stdout, attempt+"=false") {
				t.Errorf("%s was possible: %s", attempt, r.stdout)
			}
		}
		// decode has refused everything that does not follow the numbers; the forged summary is text.
		if !hasLine(r.stdout, `1000 s|{"forged":true}`) || bytes.Contains(r.raw, []byte("\n999 ")) {
			t.Errorf("output %s", r.raw)
		}
		if r.receipt["launcherSealed"] != true {
			t.Errorf("receipt %v", r.receipt)
		}
	})
}

func TestSystemCallFilter(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		r := newRun(t, pid1, testcode, "filter").do()
		want := map[string]string{
			"clone3": "ENOSYS", "clone newuser": "EPERM", "unshare newuser": "EPERM", "unshare newtime": "EPERM",
			"unshare files": "", "socket unix": "", "socket tcp": "", "socket udp": "", "socket route": "",
			"Seccomp": "2", "NoNewPrivs": "1", "SigBlk": "0000000000000000",
		}
		for _, call := range strings.Fields(`io_uring_setup bpf userfaultfd perf_event_open keyctl add_key kexec_load mount fsopen
			setns process_vm_readv chroot pivot_root open_by_handle_at name_to_handle_at init_module reboot swapon acct pidfd_getfd`) {
			want[call] = "EPERM"
		}
		for _, socket := range []string{"netfilter", "raw", "raw6", "ping", "packet", "alg", "vsock", "high bits"} {
			want["socket "+socket] = "EPERM"
		}
		for call, errno := range want {
			if !hasLine(r.stdout, call+"="+errno) {
				t.Errorf("%s is not %q in\n%s", call, errno, r.stdout)
			}
		}
	})
}

func TestWhatTheCodeInherits(t *testing.T) {
	run := newRun(t, false, testcode, "fds").set("env", map[string]string{"SEED": "1", "LANG": "de"})
	input := run.directory + "/../stdin"
	os.WriteFile(input, []byte("in\x00put"), 0o644)
	run.set("stdinPath", input)
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	r := run.do()
	want := fmt.Sprintf("0 %s\n1 pipe\n2 pipe\nstdin=\"in\\x00put\"\nenv HOME=/work\nenv LANG=de\nenv PATH=%s\nenv SEED=1\n"+
		"env TMPDIR=/tmp\ncwd %s\n", strings.TrimSuffix(run.directory, "work")+"stdin",
		"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", run.directory)
	if string(r.stdout) != want {
		t.Errorf("got\n%s\nwant\n%s", r.stdout, want)
	}
	// A descriptor that the container's runtime forgot to close must not reach the code either.
	run = newRun(t, false, testcode, "fds")
	run.before = func(command *exec.Cmd) { command.ExtraFiles = []*os.File{leak, leak} }
	if r := run.do(); bytes.Contains(r.stdout, []byte("passwd")) || !bytes.Contains(r.stdout, []byte("0 /dev/null\n")) {
		t.Errorf("got\n%s", r.stdout)
	}
}

func TestLimits(t *testing.T) {
	r := newRun(t, false, testcode, "limits").
		set("limits", map[string]any{"fileSizeBytes": 1234567, "processes": 77, "openFiles": 55}).do()
	for _, line := range []string{"fsize=1234567", "nofile=55", "core=0", "nproc=77", "sigpending=1024"} {
		if !hasLine(r.stdout, line) {
			t.Errorf("%s is missing in\n%s", line, r.stdout)
		}
	}
	r = newRun(t, false, shell(`head -c 3000000 /dev/zero > big; echo $?; wc -c < big`)...).
		set("limits", map[string]any{"fileSizeBytes": 1 << 20, "processes": 77, "openFiles": 55}).do()
	if !hasLine(r.stdout, "1048576") {
		t.Errorf("stdout %s, stderr %s", r.stdout, r.stderr)
	}
}

// Also when it has used all of them up, the launcher is told of its children and ends what does not end.
func TestTimers(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		r := newRun(t, pid1, testcode, "timers").do()
		if r.exit != 0 || string(r.stdout) != "1024 timers, then EAGAIN\n" {
			t.Errorf("exit %d, stdout %q", r.exit, r.stdout)
		}
		r = newRun(t, pid1, testcode, "timers", "wait").set("timeoutSeconds", 0.5).set("graceSeconds", 0.2).do()
		if !r.summary.TimedOut || string(r.stdout) != "1024 timers, then EAGAIN\n" || r.took > 20*time.Second {
			t.Errorf("took %s, stdout %q, summary %+v", r.took, r.stdout, r.summary)
		}
	})
}

func TestReceipt(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		run := newRun(t, pid1, "/bin/true")
		r := run.do()
		receipt := r.receipt
		if receipt["uid"] != float64(run.uid) || receipt["gid"] != float64(run.uid) || receipt["noNewPrivs"] != true ||
			receipt["seccomp"] != float64(2) || receipt["rootReadOnly"] != false || receipt["tokenAbsent"] != true {
			t.Errorf("receipt %v", receipt)
		}
		if groups := receipt["groups"].([]any); len(groups) != 0 {
			t.Errorf("groups %v", groups)
		}
		caps := receipt["caps"].(map[string]any)
		if caps["effective"] != "0000000000000000" || caps["ambient"] != "0000000000000000" || pid1 != (caps["bounding"] == "0000000000000000") {
			t.Errorf("caps %v", caps)
		}
		if limits := receipt["limits"].(map[string]any); limits["processes"] != float64(128) || limits["coreBytes"] != float64(0) || limits["pendingSignals"] != float64(1024) {
			t.Errorf("limits %v", limits)
		}
		for call, errno := range receipt["denied"].(map[string]any) {
			if errno != "EPERM" {
				t.Errorf("%s: %v", call, errno)
			}
		}
		if pid1 != (receipt["launcherPid"] == float64(1)) || pid1 != (receipt["launcherShielded"] == true) {
			t.Errorf("launcherPid %v, shielded %v", receipt["launcherPid"], receipt["launcherShielded"])
		}
		if _, tried := receipt["denied"].(map[string]any)["signalLauncher"]; tried != pid1 {
			t.Errorf("denied %v", receipt["denied"])
		}
	})
}

func TestReceiptOfTheSurroundings(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	both(t, func(t *testing.T, pid1 bool) {
		run := newRun(t, pid1, "/bin/true")
		run.before = func(command *exec.Cmd) {
			host, port, _ := net.SplitHostPort(listener.Addr().String())
			command.Env = append(command.Env, "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
		}
		before := time.Now()
		receipt := run.do().receipt
		at, err := time.Parse(time.RFC3339Nano, receipt["measuredAt"].(string))
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("measured at %v (%v)", receipt["measuredAt"], err)
		}
		if receipt["processLimitHolds"] != true || receipt["userNamespace"] != false || receipt["terminationMessageWritable"] != false {
			t.Errorf("receipt %v", receipt)
		}
		if limits := receipt["limits"].(map[string]any); limits["messageQueueBytes"] != float64(0) {
			t.Errorf("limits %v", limits)
		}
		results := map[string]any{}
		for _, each := range receipt["network"].([]any) {
			connection := each.(map[string]any)
			results[connection["target"].(string)] = connection["result"]
		}
		// The probe tells an open path from a closed one.
		if results["127.0.0.1:9"] != "ECONNREFUSED" || results[listener.Addr().String()] != "connected" {
			t.Errorf("network %v", results)
		}
		paths := map[string]bool{}
		for _, each := range receipt["mounts"].([]any) {
			paths[each.(map[string]any)["path"].(string)] = true
		}
		if !paths["/"] && receipt["mountsOmitted"] == nil {
			t.Errorf("mounts %v", receipt["mounts"])
		}
	})
}

// What drops packets, as policies do, must not hold up the start.
func TestNoAnswerIsNotWaitedForLong(t *testing.T) {
	backlog, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(backlog)
	if err := unix.Bind(backlog, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	// Bound and full: what the queue has no place for is not answered.
	unix.Listen(backlog, 0)
	name, _ := unix.Getsockname(backlog)
	port := name.(*unix.SockaddrInet4).Port
	for range 3 {
		fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		defer unix.Close(fd)
	}
	run := newRun(t, false, "/bin/true")
	run.before = func(command *exec.Cmd) {
		command.Env = append(command.Env, "KUBERNETES_SERVICE_HOST=127.0.0.1", "KUBERNETES_SERVICE_PORT="+strconv.Itoa(port))
	}
	attempt := run.do().receipt["network"].([]any)[1].(map[string]any)
	if waited := attempt["waitedMilliseconds"].(float64); attempt["result"] != "noAnswer" || waited < 30 {
		t.Errorf("attempt %v", attempt)
	}
}

func TestMessageQueuesAreOutOfReach(t *testing.T) {
	r := newRun(t, false, testcode, "queues").do()
	for _, line := range []string{"mq_open=EPERM", "msgqueue=0"} {
		if !hasLine(r.stdout, line) {
			t.Errorf("%s is missing in\n%s", line, r.stdout)
		}
	}
}

func TestForkBomb(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		run := newRun(t, pid1, shell(`while :; do sleep 1000 & done`)...).
			set("limits", map[string]any{"fileSizeBytes": 1 << 20, "processes": 60, "openFiles": 100})
		// The launcher itself may not make more threads either, as when the container's own limit is used up.
		run.wrap = []string{"/usr/bin/prlimit", "--nproc=60:60"}
		r := run.do()
		if r.exit != 2 || !bytes.Contains(r.stderr, []byte("Cannot fork")) || r.summary.Reason != "exited" || !r.summary.PidsLimitHit {
			t.Errorf("exit %d, stderr %.300q, summary %+v", r.exit, r.stderr, r.summary)
		}
		if r := newRun(t, pid1, shell(`sleep 0.4 & sleep 0.4 & wait`)...).do(); r.summary.PidsLimitHit {
			t.Errorf("summary %+v", r.summary)
		}
	})
}

func TestSignalsFromTheCodeDoNotEndTheLauncher(t *testing.T) {
	t.Run("process", func(t *testing.T) {
		if r := newRun(t, false, testcode, "signals").do(); r.exit != 0 || string(r.stdout) != "sent\n" {
			t.Errorf("exit %d, stdout %q, summary %+v", r.exit, r.stdout, r.summary)
		}
	})
	// There it may not even try: not every kernel protects process 1.
	t.Run("pid1", func(t *testing.T) {
		r := newRun(t, true, testcode, "end").do()
		want := "kill KILL=EPERM\nkill STOP=EPERM\ntkill=EPERM\ntgkill=EPERM\nqueue=EPERM\npidfd=EPERM\nby descriptor=ENOSYS\n" +
			"nice=EPERM\naffinity=EPERM\nfile=EPERM\nfile TERM=EPERM\nfile INT=EPERM\nfile IO=\nitself=\ngroup=\n"
		if r.exit != 0 || string(r.stdout) != want {
			t.Errorf("exit %d, stdout %s, summary %+v", r.exit, r.stdout, r.summary)
		}
	})
}

func statusNumber(pid int, name string) int {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name+":" {
			number, _ := strconv.Atoi(fields[1])
			return number
		}
	}
	return 0
}

// What the launcher adds to the start of a program. Other work on the machine delays both, so the best of some counts.
func TestStartsQuickly(t *testing.T) {
	const limit, attempts = 10 * time.Millisecond, 100
	code := shell(`date +%s%N`)
	since := func(began time.Time, output []byte) time.Duration {
		nanoseconds, err := strconv.ParseInt(strings.TrimSpace(string(output)), 10, 64)
		if err != nil {
			t.Fatalf("output %q", output)
		}
		return time.Unix(0, nanoseconds).Sub(began)
	}
	alone, launched := time.Hour, time.Hour
	for attempt := 0; attempt < attempts && launched-alone > limit || attempt < 10; attempt++ {
		began := time.Now()
		output, _ := exec.Command(code[0], code[1:]...).Output()
		alone = min(alone, since(began, output))
		run := newRun(t, false, code...)
		run.before = func(*exec.Cmd) { began = time.Now() }
		launched = min(launched, since(began, run.do().stdout))
	}
	t.Logf("%s, without the launcher %s", launched, alone)
	if launched-alone > limit {
		t.Errorf("the launcher takes %s to start a program", launched-alone)
	}
}

func TestMemoryAndThreads(t *testing.T) {
	run := newRun(t, false, shell(`: > up; sleep 0.1; yes short lines | head -c 3000000; head -c 3000000 /dev/urandom >&2; : > done; sleep 0.3`)...).
		set("maxStreamBytes", 8<<20) // all of it is emitted, and must not be held in memory for that
	const limit = 5 << 10 // KiB, the launcher's budget
	high, before, after := 0, 0, 0
	run.signal = func(pid int) {
		run.waitFor("up")
		before = statusNumber(pid, "Threads")
		run.waitFor("done")
		after, high = statusNumber(pid, "Threads"), statusNumber(pid, "VmHWM")
	}
	run.do()
	t.Logf("VmHWM %d KiB, %d threads", high, after)
	if high == 0 || high > limit {
		t.Errorf("VmHWM is %d KiB", high)
	}
	// Where the code has used up the process limit, a thread that has to be made then ends the launcher.
	const spare = 9 // the runtime itself needs about five
	if before < spare || after > before {
		t.Errorf("%d threads when the code began, %d when it ended", before, after)
	}
	if stat, err := os.Stat(launcher); err != nil || stat.Size() > 5e6 {
		t.Errorf("the program has %d bytes", stat.Size())
	}
}

func TestWithoutNewerCalls(t *testing.T) {
	// gVisor and older kernels lack these; each has a fallback.
	for name, number := range map[string]int{"openat2": unix.SYS_OPENAT2, "close_range": unix.SYS_CLOSE_RANGE} {
		t.Run(name, func(t *testing.T) {
			run := newRun(t, false, shell(`echo x > file; ln -s /etc/passwd link; ls /proc/self/fd`)...).
				set("artifacts", map[string]any{"paths": []string{"*"}, "maxBytes": 1000, "maxFiles": 10})
			run.wrap = []string{testcode, "without", strconv.Itoa(number), strconv.Itoa(int(unix.ENOSYS))}
			r := run.do()
			if r.exit != 0 || r.summary.Artifacts.Count != 1 || r.summary.Artifacts.Refused != 1 || string(r.stdout) != "0\n1\n2\n3\n" {
				t.Errorf("exit %d, stdout %q, summary %+v", r.exit, r.stdout, r.summary)
			}
		})
	}
}

func BenchmarkThroughput(b *testing.B) {
	const size = 100 << 20
	settings := b.TempDir() + "/launcher.json"
	os.WriteFile(settings, []byte(`{"version":1,"command":["/usr/bin/head","-c","104857600","/dev/zero"],"cwd":"/","timeoutSeconds":60,
		"maxStreamBytes":1073741824,"maxEmittedBytes":1073741824,"limits":{"fileSizeBytes":1,"processes":1000,"openFiles":64}}`), 0o644)
	b.SetBytes(size)
	for b.Loop() {
		if err := exec.Command(launcher, "run", settings).Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart measures from the start of the launcher to the first output of the code.
func BenchmarkStart(b *testing.B) {
	settings := b.TempDir() + "/launcher.json"
	os.WriteFile(settings, fmt.Appendf(nil, `{"version":1,"command":[%q,"ready"],"cwd":"/","timeoutSeconds":60,
		"maxStreamBytes":1048576,"maxEmittedBytes":1048576,"limits":{"fileSizeBytes":1,"processes":1000,"openFiles":64}}`, testcode), 0o644)
	var total time.Duration
	for b.Loop() {
		command := exec.Command(launcher, "run", settings)
		output, err := command.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		command.Start()
		var seen []byte
		for chunk := make([]byte, 4096); !bytes.Contains(seen, []byte("ready")); {
			n, err := output.Read(chunk)
			if err != nil {
				b.Fatal(err)
			}
			seen = append(seen, chunk[:n]...)
		}
		total += time.Since(began)
		command.Wait()
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N)/1000, "ms-to-output")
}
