package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

type file struct {
	data []byte
	mode string
}

// assemble puts artifact frames together as a recorder would and checks each against its closing frame.
func assemble(t *testing.T, r *result) (files map[string]file, refused map[string]string) {
	t.Helper()
	files, refused = map[string]file{}, map[string]string{}
	open := map[float64][]byte{}
	var end map[string]any
	for _, frame := range r.artifacts {
		if end != nil {
			t.Fatal("a frame follows the end of the artifacts")
		}
		path, _ := frame["path"].(string)
		index, _ := frame["index"].(float64)
		switch {
		case frame["end"] == true:
			end = frame
		case frame["refused"] != nil:
			refused[path] = frame["refused"].(string)
		case frame["chunk"] != nil:
			data, err := base64.StdEncoding.DecodeString(frame["chunk"].(string))
			if err != nil || len(frame["chunk"].(string)) > 8192 {
				t.Fatalf("chunk: %v", err)
			}
			open[index] = append(open[index], data...)
		case frame["done"] == true:
			data := open[index]
			sum := sha256.Sum256(data)
			if frame["size"] != float64(len(data)) || frame["sha256"] != hex.EncodeToString(sum[:]) {
				t.Fatalf("%s: closing frame %v does not fit %d bytes", path, frame, len(data))
			}
			files[path] = file{data, frame["mode"].(string)}
			delete(open, index)
		}
	}
	stats := r.summary.Artifacts
	if end == nil || end["count"] != float64(len(files)) || end["complete"] != stats.Complete || end["refused"] != float64(stats.Refused) ||
		stats.Count != int64(len(files)) {
		t.Fatalf("end frame %v, summary %+v, %d files", end, stats, len(files))
	}
	return files, refused
}

func artifactRun(t *testing.T, script string, patterns ...string) *run {
	return newRun(t, false, shell(script)...).
		set("artifacts", map[string]any{"paths": patterns, "maxBytes": 4 << 20, "maxFiles": 1000})
}

func TestArtifacts(t *testing.T) {
	r := artifactRun(t, `mkdir -p out/deep/er; echo one > out/1.txt; printf '' > out/empty; chmod 700 out/1.txt
		head -c 100000 /dev/zero | tr '\0' z > out/deep/er/big; echo no > not; echo "q" > 'out/a "quoted" \name'; echo u > out/ünï`,
		"out/**").do()
	files, refused := assemble(t, r)
	if len(files) != 5 || len(refused) != 0 || !r.summary.Artifacts.Complete {
		t.Fatalf("%d files, refused %v, %+v", len(files), refused, r.summary.Artifacts)
	}
	if string(files["out/1.txt"].data) != "one\n" || files["out/1.txt"].mode != "0700" || len(files["out/empty"].data) != 0 ||
		!bytes.Equal(files["out/deep/er/big"].data, bytes.Repeat([]byte{'z'}, 100000)) ||
		string(files[`out/a "quoted" \name`].data) != "q\n" || string(files["out/ünï"].data) != "u\n" {
		t.Errorf("files %v", files)
	}
	if r.summary.Artifacts.Bytes != 4+100000+2+2 {
		t.Errorf("summary %+v", r.summary.Artifacts)
	}
}

func TestArtifactsThatDoNotExist(t *testing.T) {
	r := artifactRun(t, `exit 3`, "out/**", "report.json").do()
	if files, _ := assemble(t, r); len(files) != 0 || !r.summary.Artifacts.Complete || r.exit != 3 {
		t.Errorf("summary %+v", r.summary)
	}
}

func TestHostileArtifacts(t *testing.T) {
	run := artifactRun(t, `cd "$PWD"; mkdir -p out/dir; echo good > out/good
		ln -s /etc/passwd out/link; ln -s /etc linked; ln out/good out/hard1; echo h > out/h; ln out/h out/h2; rm out/hard1
		mkfifo out/fifo; truncate -s 1T out/sparse; printf x > "$(printf 'out/new\nline')"; printf x > "$(printf 'out/bad\377utf')"
		printf x > "$(printf 'out/esc\033[31m')"; printf x > "$(printf 'out/rtl\342\200\256txt')"; mkdir "$(printf 'out/d\001r')"; echo in > "$(printf 'out/d\001r')/f"
		echo secret > out/unreadable; chmod 000 out/unreadable; mkdir out/closed; chmod 000 out/closed; "$0" socketfile out/sock
		d=out/deep; i=0; while [ $i -lt 40 ]; do d=$d/d; i=$((i+1)); done; mkdir -p $d; echo deep > $d/f`,
		"out/**", "linked/**", "out/dir", "nothing")
	run.set("limits", map[string]any{"fileSizeBytes": 2 << 40, "processes": 128, "openFiles": 1024})
	run.settings["command"] = append(run.settings["command"].([]string), testcode)
	r := run.do()
	files, refused := assemble(t, r)
	if len(files) != 1 || string(files["out/good"].data) != "good\n" {
		t.Errorf("files %v, stderr %s", files, r.stderr)
	}
	for path, reason := range map[string]string{
		"out/link": "symbolic link", "linked": "symbolic link", "out/h": "hard link", "out/h2": "hard link", "out/fifo": "named pipe",
		"out/sock": "socket", "out/sparse": "larger than what is left of maxBytes", `out/new\x0aline`: "its name is not plain UTF-8 text",
		`out/bad\xffutf`: "its name is not plain UTF-8 text", `out/esc\x1b[31m`: "its name is not plain UTF-8 text",
		`out/rtl\xe2\x80\xaetxt`: "its name is not plain UTF-8 text", `out/d\x01r`: "its name is not plain UTF-8 text",
		"out/unreadable": "cannot be opened: permission denied", "out/closed": "cannot be opened: permission denied",
	} {
		if refused[path] != reason {
			t.Errorf("%s: refused as %q, want %q", path, refused[path], reason)
		}
	}
	deep := false
	for path, reason := range refused {
		deep = deep || strings.HasPrefix(path, "out/deep/") && reason == "nested too deeply"
	}
	if !deep || r.summary.Artifacts.Complete || int(r.summary.Artifacts.Refused) != len(refused) {
		t.Errorf("refused %v, summary %+v", refused, r.summary.Artifacts)
	}
	if bytes.ContainsAny(r.raw, "\x1b\x01") {
		t.Error("control characters were sent on")
	}
}

func TestDevicesAreNotRead(t *testing.T) {
	run := artifactRun(t, `true`, "*")
	for i, kind := range []uint32{syscall.S_IFCHR, syscall.S_IFBLK} {
		if err := syscall.Mknod(fmt.Sprintf("%s/device%d", run.directory, i), kind|0o666, 1<<8|5); err != nil {
			t.Fatal(err)
		}
	}
	_, refused := assemble(t, run.do())
	if refused["device0"] != "device" || refused["device1"] != "device" {
		t.Errorf("refused %v", refused)
	}
}

func TestArtifactCaps(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		run := artifactRun(t, `mkdir out; head -c 900 /dev/zero > out/a; head -c 900 /dev/zero > out/b; head -c 50 /dev/zero > out/c`, "out/*")
		r := run.set("artifacts", map[string]any{"paths": []string{"out/*"}, "maxBytes": 1000, "maxFiles": 10}).do()
		files, refused := assemble(t, r)
		if len(files) != 2 || len(refused) != 1 || r.summary.Artifacts.Bytes > 1000 {
			t.Errorf("%d files, refused %v", len(files), refused)
		}
	})
	t.Run("files", func(t *testing.T) {
		r := artifactRun(t, `mkdir out; cd out; i=0; while [ $i -lt 500 ]; do echo $i > $i; i=$((i+1)); done`).
			set("artifacts", map[string]any{"paths": []string{"out/*"}, "maxBytes": 100000, "maxFiles": 50}).do()
		files, refused := assemble(t, r)
		if len(files) != 50 || len(refused) != 100 || r.summary.Artifacts.Refused != 450 {
			t.Errorf("%d files, %d refusals shown, %+v", len(files), len(refused), r.summary.Artifacts)
		}
	})
	t.Run("emitted", func(t *testing.T) {
		r := artifactRun(t, `mkdir out; head -c 900000 /dev/urandom > out/a; echo small > out/b; yes | head -c 900000`, "out/*").
			set("maxEmittedBytes", 100_000).do()
		files, refused := assemble(t, r)
		if len(files) != 1 || refused["out/a"] != "larger than what is left of maxEmittedBytes" {
			t.Errorf("%d files, refused %v", len(files), refused)
		}
		if charged := len(r.raw) + 64*bytes.Count(r.raw, []byte{'\n'}); charged > 100_000 {
			t.Errorf("%d bytes were emitted, charges included", charged)
		}
	})
}

func TestAMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a million files")
	}
	run := newRun(t, false, testcode, "many", ".", "1000000").
		set("timeoutSeconds", 55).set("artifacts", map[string]any{"paths": []string{"**"}, "maxBytes": 1000, "maxFiles": 5})
	directory, err := os.MkdirTemp("/dev/shm", "launcher-test-")
	if err != nil {
		t.Skip("no tmpfs for a million files")
	}
	defer os.RemoveAll(directory)
	os.Chown(directory, int(run.uid), int(run.uid))
	run.set("cwd", directory)
	r := run.do()
	files, _ := assemble(t, r)
	if len(files) != 5 || r.summary.Artifacts.Complete || r.summary.Artifacts.Refused < 100 || len(r.artifacts) > 300 {
		t.Errorf("%d files, %d frames, %+v", len(files), len(r.artifacts), r.summary.Artifacts)
	}
	if walked := r.took - time.Duration(r.summary.WallSeconds*float64(time.Second)); walked > 25*time.Second {
		t.Errorf("collecting took %v", walked)
	}
}
