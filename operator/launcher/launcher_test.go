package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests run the real program as an unprivileged user, once as an ordinary process and once as process 1 of its
// own namespace, as in a container.

var launcher, testcode string

// nextUID gives each run a uid of its own, as in a cluster: limits of processes count per uid.
var nextUID = uint32(20000 + os.Getpid()%1000*40)

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "launcher-test-")
	if err != nil {
		panic(err)
	}
	os.Chmod(directory, 0o755)
	launcher, testcode = directory+"/launcher", directory+"/testcode"
	for _, target := range [][2]string{{launcher, "."}, {testcode, "./internal/testcode"}} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target[0], target[1])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			panic(string(output))
		}
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

type summary struct {
	ExitCode     *int    `json:"exitCode"`
	Signal       *string `json:"signal"`
	TimedOut     bool    `json:"timedOut"`
	PidsLimitHit bool    `json:"pidsLimitHit"`
	Reason       string  `json:"reason"`
	Stdout       stream  `json:"stdout"`
	Stderr       stream  `json:"stderr"`
	Artifacts    struct {
		Count, Bytes, Refused int64
		Complete              bool
	} `json:"artifacts"`
	WallSeconds      float64 `json:"wallSeconds"`
	CPUUserSeconds   float64 `json:"cpuUserSeconds"`
	CPUSystemSeconds float64 `json:"cpuSystemSeconds"`
	MaxRSSBytes      int64   `json:"maxRssBytes"`
	DiskFull         bool    `json:"diskFull"`
	Error            string  `json:"error"`
}

type stream struct {
	Bytes, Emitted, Lines int64
	Truncated             bool
}

// result is what a reader of the launcher's stdout knows.
type result struct {
	exit           int
	raw            []byte
	stdout, stderr []byte
	artifacts      []map[string]any
	receipt        map[string]any
	summary        *summary
	took           time.Duration
}

// decode reads frames as a recorder would, and fails on everything that is not exactly as the protocol says.
func decode(t *testing.T, raw []byte) *result {
	t.Helper()
	r := &result{raw: raw}
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		t.Fatalf("output does not end with a line feed: %d bytes", len(raw))
	}
	lines := bytes.Split(raw[:len(raw)-1], []byte{'\n'})
	for i, line := range lines {
		head, rest, _ := bytes.Cut(line, []byte{' '})
		if string(head) != strconv.Itoa(i+1) || len(rest) < 2 || len(line) >= 16<<10 {
			t.Fatalf("line %d is not a frame with that number: %.80q", i+1, line)
		}
		kind, mark, text := rest[0], rest[1], rest[2:]
		if r.summary != nil {
			t.Fatalf("a frame follows the summary: %.80q", line)
		}
		var target any
		switch kind {
		case 'o':
			r.stdout = appendText(r.stdout, mark, text)
		case 'e':
			r.stderr = appendText(r.stderr, mark, text)
		case 'a':
			fields := map[string]any{}
			r.artifacts = append(r.artifacts, fields)
			target = &fields
		case 'r':
			target = &r.receipt
			if i != 0 {
				t.Fatalf("the receipt is frame %d", i+1)
			}
		case 's':
			r.summary = &summary{}
			target = r.summary
		default:
			t.Fatalf("unknown kind: %.80q", line)
		}
		if target != nil {
			if err := json.Unmarshal(text, target); err != nil {
				t.Fatalf("%v: %.200q", err, line)
			}
		}
	}
	if r.summary == nil {
		t.Fatalf("no summary in %.300q", raw)
	}
	return r
}

func appendText(to []byte, mark byte, text []byte) []byte {
	if mark == '!' || mark == '?' { // the last byte guards a carriage return
		text = text[:len(text)-1]
	}
	to = append(to, text...)
	if mark == '|' || mark == '!' {
		to = append(to, '\n')
	}
	return to
}

// run describes one run of the launcher.
type run struct {
	t         *testing.T
	pid1      bool
	directory string // cwd of the code
	settings  map[string]any
	signal    func(pid int) // called while it runs
	before    func(*exec.Cmd)
	wrap      []string // a command that executes the launcher
	uid       uint32
}

func newRun(t *testing.T, pid1 bool, command ...string) *run {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests start processes of other users: run them as root")
	}
	nextUID++
	directory := filepath.Join(t.TempDir(), "work")
	for path := directory; path != "/" && path != "/tmp"; path = filepath.Dir(path) {
		os.MkdirAll(path, 0o755)
		os.Chmod(path, 0o755)
	}
	os.Chown(directory, int(nextUID), int(nextUID))
	return &run{t: t, pid1: pid1, directory: directory, uid: nextUID, settings: map[string]any{
		"version": 1, "command": command, "cwd": directory, "env": map[string]string{}, "timeoutSeconds": 30,
		"graceSeconds": 1, "maxStreamBytes": 1 << 20, "maxEmittedBytes": 8 << 20,
		"limits": map[string]any{"fileSizeBytes": 64 << 20, "processes": 128, "openFiles": 1024},
	}}
}

func (r *run) set(name string, value any) *run {
	r.settings[name] = value
	return r
}

func (r *run) command() *exec.Cmd {
	r.t.Helper()
	data, err := json.Marshal(r.settings)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(r.directory), "launcher.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		r.t.Fatal(err)
	}
	arguments := append(append([]string{}, r.wrap...), launcher, "run", file)
	if r.pid1 {
		uid := strconv.Itoa(int(r.uid))
		arguments = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "setpriv", "--reuid", uid,
			"--regid", uid, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}, arguments...)
	}
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "PLATFORM_SECRET=1"}
	if !r.pid1 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: r.uid, Gid: r.uid}}
	}
	return command
}

// do runs the launcher to its end.
func (r *run) do() *result {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	command := r.command()
	command.Stdout, command.Stderr = &stdout, &stderr
	if r.before != nil {
		r.before(command)
	}
	began := time.Now()
	if err := command.Start(); err != nil {
		r.t.Fatal(err)
	}
	if r.signal != nil {
		r.signal(r.launcherPID(command.Process.Pid))
	}
	limit := time.AfterFunc(60*time.Second, func() { command.Process.Kill() }) // a hang is a failure, not a stuck suite
	command.Wait()
	limit.Stop()
	result := decode(r.t, stdout.Bytes())
	result.exit, result.took = command.ProcessState.ExitCode(), time.Since(began)
	if left := r.survivors(); left != "" {
		r.t.Errorf("processes are left: %s", left)
	}
	if stderr.Len() > 0 {
		r.t.Errorf("launcher's stderr: %s", stderr.String())
	}
	return result
}

// launcherPID finds the launcher below its wrappers.
func (r *run) launcherPID(pid int) int {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if !r.pid1 {
			return pid
		}
		list, _ := exec.Command("pgrep", "-f", "-o", "-u", strconv.Itoa(int(r.uid)), "launcher run").Output()
		if found, err := strconv.Atoi(strings.TrimSpace(string(list))); err == nil {
			return found
		}
	}
	r.t.Fatal("the launcher did not appear")
	return 0
}

func (r *run) survivors() string {
	list, _ := exec.Command("pgrep", "-l", "-u", strconv.Itoa(int(r.uid))).Output()
	return string(list)
}

// waitFor waits until the code has created a file in its directory.
func (r *run) waitFor(name string) {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.directory, name)); err == nil {
			return
		}
	}
	r.t.Errorf("%s did not appear", name)
}

// both runs a test as an ordinary process and as process 1.
func both(t *testing.T, test func(t *testing.T, pid1 bool)) {
	t.Run("process", func(t *testing.T) { test(t, false) })
	t.Run("pid1", func(t *testing.T) { test(t, true) })
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }
