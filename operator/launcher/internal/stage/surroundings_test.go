package stage

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForeignMounts(t *testing.T) {
	folder, file, sealed := "/usr", "/etc/passwd", t.TempDir()
	os.Chmod(sealed, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As nobody: root gets everywhere. It is this thread alone, which ends with the goroutine that does not unlock it.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 && os.Getuid() == 0 {
			t.Error(errno)
		}
		checkForeignMounts(t, folder, file, sealed)
	}()
	<-done
}

func checkForeignMounts(t *testing.T, folder, file, sealed string) {
	for name, test := range map[string]struct {
		mount Mount
		found bool
	}{
		"a volume of the image":        {Mount{Path: folder, Type: "ext4"}, true},
		"the same under gVisor":        {Mount{Path: folder, Type: "9p"}, true},
		"one that cannot be looked at": {Mount{Path: "/no/such", Type: "ext4"}, true},
		"one that cannot be reached":   {Mount{Path: sealed + "/message", Type: "ext4"}, false},
		"the working folder":           {Mount{Path: "/work", Type: "9p"}, false},
		"shared memory":                {Mount{Path: "/dev/shm", Type: "tmpfs"}, false},
		"the kernel's":                 {Mount{Path: "/proc", Type: "proc"}, false},
		"a file of Kubernetes'":        {Mount{Path: file, Type: "ext4"}, false},
	} {
		if path, found := foreignMount([]Mount{{Path: "/", Type: "overlay"}, test.mount}); found != test.found {
			t.Errorf("%s: %q %v", name, path, found)
		}
	}
}
