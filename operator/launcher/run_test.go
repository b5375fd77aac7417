package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExitCodesAndSignals(t *testing.T) {
	for _, test := range []struct {
		name, script, reason, signal string
		exit                         int
	}{
		{"zero", "exit 0", "exited", "", 0},
		{"one", "exit 1", "exited", "", 1},
		{"its own 124 is not a timeout", "exit 124", "exited", "", 124},
		{"255", "exit 255", "exited", "", 255},
		{"killed", "kill -KILL $$", "signalled", "SIGKILL", 137},
		{"terminated by itself", "kill -TERM $$", "signalled", "SIGTERM", 143},
		{"aborted", "kill -ABRT $$", "signalled", "SIGABRT", 134},
		{"real-time signal", "kill -40 $$", "signalled", "SIG40", 168},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRun(t, false, shell(test.script)...).do()
			if r.exit != test.exit || r.summary.Reason != test.reason || r.summary.TimedOut {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
			if test.signal == "" && (r.summary.ExitCode == nil || *r.summary.ExitCode != test.exit || r.summary.Signal != nil) {
				t.Errorf("summary %+v", r.summary)
			}
			if test.signal != "" && (r.summary.Signal == nil || *r.summary.Signal != test.signal || r.summary.ExitCode != nil) {
				t.Errorf("summary %+v", r.summary)
			}
		})
	}
}

func TestStartFailures(t *testing.T) {
	for _, test := range []struct {
		name, message string
		command       []string
		exit          int
	}{
		{"not found in PATH", "not found", []string{"no-such-program"}, 127},
		{"not found by path", "not found", []string{"/no/such/program"}, 127},
		{"not executable", "permission denied", []string{"/etc/passwd"}, 126},
		{"a directory", "permission denied", []string{"/etc"}, 126},
		{"no such interpreter", "interpreter", []string{"./script"}, 127},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := newRun(t, false, test.command...)
			os.WriteFile(run.directory+"/script", []byte("#!/no/such/interpreter\n"), 0o755)
			r := run.do()
			if r.exit != test.exit || r.summary.Reason != "startFailed" || !strings.Contains(r.summary.Error, test.message) {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
			if r.receipt == nil {
				t.Error("no receipt")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*run)
		want   string
	}{
		"unknown field":     {func(r *run) { r.set("extra", 1) }, "unknown field"},
		"no such directory": {func(r *run) { r.set("cwd", "/no/such") }, "cwd /no/such"},
		"no such stdin":     {func(r *run) { r.set("stdinPath", "/no/such") }, "stdin /no/such"},
		"stdin is a device": {func(r *run) { r.set("stdinPath", "/dev/zero") }, "not a regular file"},
		"limits too low": {func(r *run) {
			r.set("limits", map[string]any{"fileSizeBytes": 1, "processes": 1, "openFiles": 1})
		}, "below"},
		"no seccomp filter": {func(r *run) {
			r.wrap = []string{testcode, "without", strconv.Itoa(unix.SYS_SECCOMP), strconv.Itoa(int(unix.EINVAL))}
		}, "seccomp filter: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			run := newRun(t, false, "/bin/true")
			test.change(run)
			r := run.do()
			if r.exit != 125 || r.summary.Reason != "startFailed" || !strings.Contains(r.summary.Error, test.want) {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
		})
	}
}

func TestOutputIsExact(t *testing.T) {
	for name, script := range map[string]string{
		"nothing":              "true",
		"an empty line":        `printf '\n'`,
		"no newline at end":    `printf 'a\nb'`,
		"every byte value":     `i=0; while [ $i -lt 256 ]; do printf "\\$(printf %o $i)"; i=$((i+1)); done`,
		"exactly one frame":    `head -c 8192 /dev/zero; printf '\n'`,
		"one more":             `head -c 8193 /dev/zero; printf '\n'`,
		"40,000 bytes":         `head -c 40000 /dev/zero | tr '\0' x; printf '\nend\n'`,
		"frames as text":       `printf '1 o|x\n2 s|{}\n9 a|{"end":true}\n'`,
		"carriage returns":     `printf 'a\r\nb\rc\n'`,
		"a prompt and a pause": `printf 'name: '; sleep 1.3; printf 'x\n'; printf y; sleep 1.3; printf '\n'`,
	} {
		t.Run(name, func(t *testing.T) {
			expected, err := exec.Command("/bin/sh", "-c", script).Output()
			if err != nil {
				t.Fatal(err)
			}
			r := newRun(t, false, shell(script+`; printf 'to stderr' >&2`)...).do()
			if !bytes.Equal(r.stdout, expected) {
				t.Errorf("stdout is %.80q, want %.80q", r.stdout, expected)
			}
			if string(r.stderr) != "to stderr" {
				t.Errorf("stderr is %q", r.stderr)
			}
			want := stream{int64(len(expected)), int64(len(expected)), int64(bytes.Count(expected, []byte{'\n'})), false}
			if r.summary.Stdout != want {
				t.Errorf("summary says %+v, want %+v", r.summary.Stdout, want)
			}
		})
	}
}

func TestHundredMegabytes(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		const size = 100 << 20
		r := newRun(t, pid1, testcode, "write", "104857600", "7", "100").do()
		if r.exit != 0 || r.summary.Stdout.Bytes != size || !r.summary.Stdout.Truncated || r.summary.Stdout.Emitted != 1<<20 {
			t.Fatalf("exit %d, summary %+v", r.exit, r.summary)
		}
		expected, err := exec.Command(testcode, "write", "1048576", "7", "100").Output()
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(r.stdout) != sha256.Sum256(expected) {
			t.Error("what was emitted is not the beginning of what was written")
		}
	})
}

func TestTinyLinesStayWithinTheBudget(t *testing.T) {
	r := newRun(t, false, shell(`yes '' | head -c 3000000; echo said >&2`)...).
		set("artifacts", map[string]any{"paths": []string{"**"}, "maxBytes": 1 << 20, "maxFiles": 10}).do()
	charged := len(r.raw) + 64*bytes.Count(r.raw, []byte{'\n'})
	if charged > 8<<20 || charged < 3<<20 {
		t.Errorf("%d bytes were emitted, charges included", charged)
	}
	if !r.summary.Stdout.Truncated || r.summary.Stdout.Bytes != 3000000 || r.summary.Stdout.Emitted != int64(len(r.stdout)) {
		t.Errorf("summary %+v", r.summary)
	}
	if string(r.stderr) != "said\n" {
		t.Errorf("the flood on stdout silenced stderr: %q", r.stderr)
	}
}

func TestBackgroundProcessesAreEnded(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		for name, command := range map[string][]string{
			"keeps stdout":           shell(`(while :; do echo tick; sleep 0.02; done) & echo main done`),
			"daemon ignores SIGTERM": {testcode, "daemon"},
			"closed its outputs":     shell(`sleep 1000 >/dev/null 2>&1 & echo main done; echo tick`),
			"double fork":            shell(`(setsid sh -c 'while :; do echo tick; sleep 0.02; done' &) ; sleep 0.1; echo main done`),
		} {
			t.Run(name, func(t *testing.T) {
				r := newRun(t, pid1, command...).do()
				if r.exit != 0 || r.took > 5*time.Second {
					t.Errorf("exit %d after %v", r.exit, r.took)
				}
				for _, text := range []string{"main done\n", "tick\n"} {
					if !bytes.Contains(r.stdout, []byte(text)) {
						t.Errorf("%q is missing in %.200q", text, r.stdout)
					}
				}
			})
		}
	})
}

func TestLastWordsOfBackgroundProcessesAreKept(t *testing.T) {
	r := newRun(t, false, shell(`(sleep 0.2; echo late) & echo early`)...).do()
	if string(r.stdout) != "early\nlate\n" {
		t.Errorf("stdout %q", r.stdout)
	}
}

// A program may be over before the launcher has seen that it started.
func TestShortPrograms(t *testing.T) {
	for range 30 {
		run := newRun(t, false, "/bin/true")
		run.wrap = []string{"/usr/bin/taskset", "-c", "0"} // on one processor that is likely
		if r := run.do(); r.exit != 0 || r.took > 10*time.Second {
			t.Fatalf("exit %d after %v", r.exit, r.took)
		}
	}
}

func TestClosedOutputs(t *testing.T) {
	r := newRun(t, false, shell(`echo before; exec >&- 2>&-; sleep 0.3; exit 7`)...).do()
	if r.exit != 7 || string(r.stdout) != "before\n" || r.summary.WallSeconds < 0.3 {
		t.Errorf("exit %d, stdout %q, summary %+v", r.exit, r.stdout, r.summary)
	}
}

func TestTimeout(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		t.Run("polite", func(t *testing.T) {
			r := newRun(t, pid1, shell(`trap 'echo bye; exit 3' TERM; echo on; while :; do sleep 0.05; done`)...).
				set("timeoutSeconds", 0.4).set("graceSeconds", 5).do()
			if r.exit != 124 || r.summary.Reason != "timeout" || !r.summary.TimedOut || r.summary.ExitCode == nil || *r.summary.ExitCode != 3 {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
			if string(r.stdout) != "on\nbye\n" || r.took > 3*time.Second {
				t.Errorf("stdout %q after %v", r.stdout, r.took)
			}
		})
		t.Run("whole tree ignores SIGTERM", func(t *testing.T) {
			r := newRun(t, pid1, testcode, "stubborn", "3").set("timeoutSeconds", 0.5).set("graceSeconds", 0.5).do()
			if r.exit != 124 || r.summary.Signal == nil || *r.summary.Signal != "SIGKILL" || r.took > 5*time.Second {
				t.Errorf("exit %d, summary %+v after %v", r.exit, r.summary, r.took)
			}
			if bytes.Count(r.stdout, []byte("stubborn")) != 4 {
				t.Errorf("stdout %q", r.stdout)
			}
		})
		t.Run("stopped", func(t *testing.T) {
			r := newRun(t, pid1, shell(`trap 'echo woken; exit 0' TERM; kill -STOP $$`)...).set("timeoutSeconds", 0.3).do()
			if r.exit != 124 || string(r.stdout) != "woken\n" {
				t.Errorf("exit %d, stdout %q", r.exit, r.stdout)
			}
		})
	})
}

func TestTermination(t *testing.T) {
	both(t, func(t *testing.T, pid1 bool) {
		t.Run("children get the grace after the shell is gone", func(t *testing.T) {
			run := newRun(t, pid1, shell(`sh -c 'trap "sleep 0.3; echo cleaned > left; exit 0" TERM; : > up; while :; do sleep 0.02; done' & wait`)...).
				set("graceSeconds", 5).
				set("artifacts", map[string]any{"paths": []string{"left"}, "maxBytes": 1000, "maxFiles": 10})
			run.signal = func(pid int) { run.waitFor("up"); syscall.Kill(pid, syscall.SIGTERM) }
			r := run.do()
			if r.exit != 143 || r.summary.Reason != "terminated" || r.summary.Artifacts.Count != 1 || !r.summary.Artifacts.Complete {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
			if r.took > 4*time.Second {
				t.Errorf("took %v", r.took)
			}
		})
		t.Run("ignored", func(t *testing.T) {
			run := newRun(t, pid1, shell(`trap '' TERM; : > up; while :; do sleep 0.05; done`)...).set("graceSeconds", 0.4)
			run.signal = func(pid int) { run.waitFor("up"); syscall.Kill(pid, syscall.SIGTERM) }
			r := run.do()
			if r.exit != 137 || r.summary.Reason != "terminated" || *r.summary.Signal != "SIGKILL" {
				t.Errorf("exit %d, summary %+v", r.exit, r.summary)
			}
		})
	})
}

// A reader that stops reading must not keep the launcher from ending the code.
func TestBlockedReader(t *testing.T) {
	run := newRun(t, false, shell(`echo $$ > pid; yes 0123456789`)...).set("timeoutSeconds", 0.5).set("graceSeconds", 0.1)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command := run.command()
	command.Stdout = write
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	run.waitFor("pid")
	time.Sleep(1500 * time.Millisecond)
	if left := run.survivors(); strings.Contains(left, "yes") {
		t.Errorf("the code still runs: %s", left)
	}
	var output bytes.Buffer
	output.ReadFrom(read)
	command.Wait()
	if r := decode(t, output.Bytes()); command.ProcessState.ExitCode() != 124 || !r.summary.TimedOut {
		t.Errorf("%v, summary %+v", command.ProcessState, r.summary)
	}
}

func TestReaderGone(t *testing.T) {
	run := newRun(t, false, shell(`: > up; yes | head -c 3000000; exit 5`)...)
	command := run.command()
	read, write, _ := os.Pipe()
	command.Stdout = write
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	read.Close()
	command.Wait()
	if command.ProcessState.ExitCode() != 5 {
		t.Errorf("%v", command.ProcessState)
	}
}

func TestAccounting(t *testing.T) {
	r := newRun(t, false, shell(`sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' & wait; head -c 30000000 /dev/zero | tail -c 30000000 > /dev/null`)...).do()
	if r.summary.CPUUserSeconds < 0.05 || r.summary.MaxRSSBytes < 25<<20 || r.summary.WallSeconds < r.summary.CPUUserSeconds/4 {
		t.Errorf("summary %+v", r.summary)
	}
}

func TestFullDisk(t *testing.T) {
	for script, want := range map[string]bool{
		"head -c 2000000 /dev/zero > big":         true,
		"head -c 500000 /dev/zero > big":          false,
		"head -c 2000000 /dev/zero > big; rm big": false,
	} {
		r := newRun(t, false, shell(script)...)
		if err := unix.Mount("tmpfs", r.directory, "tmpfs", 0, "size=1m,mode=1777"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(r.directory, unix.MNT_DETACH) })
		if got := r.do().summary.DiskFull; got != want {
			t.Errorf("%s: diskFull is %v", script, got)
		}
	}
	if newRun(t, false, shell("true")...).do().summary.DiskFull {
		t.Error("a disk that is not its own counts as full")
	}
}

func TestInstallAndVersion(t *testing.T) {
	target := t.TempDir() + "/launcher"
	if output, err := exec.Command(launcher, "install", target).CombinedOutput(); err != nil {
		t.Fatal(string(output))
	}
	stat, err := os.Stat(target)
	if err != nil || stat.Mode().Perm() != 0o555 {
		t.Fatal(err, stat)
	}
	// The place of the termination message: there is a file, and only root gets to it. Once more, as after a restart.
	folder := filepath.Dir(target) + "/.sealed"
	for range 2 {
		if stat, err := os.Stat(folder); err != nil || stat.Mode().Perm() != 0 {
			t.Errorf("%v %v", err, stat)
		}
		if stat, err := os.Stat(folder + "/message"); err != nil || !stat.Mode().IsRegular() {
			t.Errorf("%v %v", err, stat)
		}
		if output, err := exec.Command(launcher, "install", target).CombinedOutput(); err != nil {
			t.Fatal(string(output))
		}
	}
	if output, err := exec.Command(target, "version").Output(); err != nil || string(output) != "dev\n" {
		t.Errorf("%q %v", output, err)
	}
	if err := exec.Command(launcher, "install", "/no/such/directory/launcher").Run(); err == nil {
		t.Error("an install that cannot work succeeded")
	}
}
