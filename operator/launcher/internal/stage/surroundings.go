package stage

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// SealedMessage is where the operator lets Kubernetes put the termination message file: in a folder that only root may
// enter, so that the code cannot fill the node's disk with it. Images that lack the folder get an open one.
const SealedMessage = "/crucible/bin/" + SealedName

// SealedName is where it is in the launcher's folder.
const SealedName = ".sealed/message"

const (
	maxMounts     = 40
	maxMountPath  = 96
	unlimited     = 1 << 60 // what control groups say when there is no limit is above this
	maxMountsFile = 256 << 10
)

// Mount is a file system in the sandbox.
type Mount struct {
	Path      string `json:"path"`
	Type      string `json:"type"`
	ReadOnly  bool   `json:"readOnly"`
	SizeBytes uint64 `json:"sizeBytes,omitempty"` // of the whole file system, if it can be written to
}

// mounts lists what can be written to first: of many, those are the ones of interest.
func mounts() (writable, list []Mount, omitted int) {
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, nil, 0
	}
	defer file.Close()
	var readOnly []Mount
	lines := bufio.NewScanner(io.LimitReader(file, maxMountsFile))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			continue
		}
		mount := Mount{Path: clip(fields[1]), Type: clip(fields[2]), ReadOnly: strings.HasPrefix(fields[3]+",", "ro,")}
		if mount.ReadOnly {
			readOnly = append(readOnly, mount)
			continue
		}
		var stat unix.Statfs_t
		if unix.Statfs(fields[1], &stat) == nil {
			mount.SizeBytes = stat.Blocks * uint64(stat.Bsize)
		}
		writable = append(writable, mount)
	}
	list = append(slices.Clone(writable), readOnly...)
	if len(list) > maxMounts {
		return writable, list[:maxMounts], len(list) - maxMounts
	}
	return writable, list, 0
}

// The sandbox's own folders and /dev, which is root's, and file systems that are the kernel's or live in memory.
var (
	ownFolders  = []string{"/", "/work", "/tmp", "/dev", "/dev/shm"}
	memoryTypes = []string{"proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
)

// foreignMount finds a folder that can be written to and is none of the sandbox's. Single files (/etc/hosts and others)
// belong to root, who may write them, and nobody else; what cannot be reached cannot be written to.
func foreignMount(writable []Mount) (string, bool) {
	for _, mount := range writable {
		if slices.Contains(ownFolders, mount.Path) || slices.Contains(memoryTypes, mount.Type) {
			continue
		}
		var stat unix.Stat_t
		err := unix.Stat(mount.Path, &stat)
		if errors.Is(err, unix.EACCES) || err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		return mount.Path, true
	}
	return "", false
}

func clip(text string) string {
	text = strings.ToValidUTF8(text, "?")
	for len(text) > maxMountPath {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

// cgroupLimits reads what version 1 and 2 call the limits of the container. A sandbox may not show them.
func cgroupLimits() map[string]uint64 {
	limits := map[string]uint64{}
	const root = "/sys/fs/cgroup/"
	for _, each := range []struct{ name, file string }{
		{"memoryBytes", "memory.max"}, {"memoryBytes", "memory/memory.limit_in_bytes"},
		{"pids", "pids.max"}, {"pids", "pids/pids.max"},
	} {
		if value, ok := number(read(root + each.file)); ok {
			limits[each.name] = value
		}
	}
	quota, period := read(root+"cpu/cpu.cfs_quota_us"), read(root+"cpu/cpu.cfs_period_us")
	if both := bytes.Fields(read(root + "cpu.max")); len(both) == 2 {
		quota, period = both[0], both[1]
	}
	if microseconds, ok := number(quota); ok {
		if of, ok := number(period); ok && of > 0 {
			limits["cpuMilli"] = microseconds * 1000 / of
		}
	}
	return limits
}

func read(path string) []byte {
	data, _ := os.ReadFile(path)
	return bytes.TrimSpace(data)
}

func number(text []byte) (uint64, bool) {
	value, err := strconv.ParseUint(string(text), 10, 64)
	return value, err == nil && value < unlimited
}

// userNamespace tells whether ids are mapped: the initial namespace maps all of them to themselves.
func userNamespace() bool {
	fields := bytes.Fields(read("/proc/self/uid_map"))
	return len(fields) >= 3 && !(string(fields[0]) == "0" && string(fields[1]) == "0" && string(fields[2]) == "4294967295")
}

func messageWritable() bool {
	for _, path := range []string{SealedMessage, "/dev/termination-log"} {
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
			return true
		}
	}
	return false
}
