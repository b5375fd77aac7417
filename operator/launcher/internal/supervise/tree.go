package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tree is all processes of the code.
type tree interface {
	// signal sends a signal to each of them.
	signal(unix.Signal)
	// tasks counts their threads and the launcher's own: what the limit of processes counts.
	tasks() int
}

// newTree makes every orphan a child of the launcher, so that none can leave the tree.
func newTree() (tree, error) {
	if os.Getpid() == 1 {
		return namespace{}, nil
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot be made a subreaper: %w", err)
	}
	return &descendants{}, nil
}

// namespace is the tree of process 1: all others. The kernel signals them at once, so none can fork its way out.
type namespace struct{}

func (namespace) signal(number unix.Signal) { _ = unix.Kill(-1, number) }

func (namespace) tasks() int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	count := 0
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			count += threadsOf(pid)
		}
	}
	return count
}

// descendants is the tree below any other process, found by walking /proc.
type descendants struct{}

func (descendants) signal(number unix.Signal) {
	// A process may fork while its parent's children are being read. Killed ones no longer can, so going over them
	// again until nobody new is found gets all.
	signalled := map[int]bool{}
	for found := true; found; {
		found = false
		for _, pid := range below(os.Getpid()) {
			if !signalled[pid] {
				found = true
				signalled[pid] = true
				_ = unix.Kill(pid, number)
			}
		}
	}
}

func (descendants) tasks() int { return tasksFrom(os.Getpid()) }

// tasksFrom follows the kernel's lists of children: unlike in a sandbox, /proc holds all processes of a machine here, and
// reading them four times a second would cost the launcher's memory.
func tasksFrom(pid int) int {
	directory := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, _ := os.ReadDir(directory)
	count := len(threads)
	for _, thread := range threads {
		children, _ := os.ReadFile(directory + "/" + thread.Name() + "/children")
		for _, child := range bytes.Fields(children) {
			if pid, err := strconv.Atoi(string(child)); err == nil {
				count += tasksFrom(pid)
			}
		}
	}
	return count
}

// below lists the processes whose chain of parents leads to root.
func below(root int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	parents := map[int]int{}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			parents[pid] = parentOf(pid)
		}
	}
	var result []int
	for pid := range parents {
		for up, steps := parents[pid], 0; up > 1 && steps < len(parents); up, steps = parents[up], steps+1 {
			if up == root {
				result = append(result, pid)
				break
			}
		}
	}
	return result
}

func parentOf(pid int) int { return statField(pid, fieldParent) }

// threadsOf is 0 for a process that has gone.
func threadsOf(pid int) int { return statField(pid, fieldThreads) }

// Fields of /proc/PID/stat, counted from the one after the name.
const (
	fieldParent  = 1
	fieldThreads = 17
)

// statField reads a number from /proc/PID/stat. The second field is the program's name, which the program chose.
func statField(pid, field int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= field {
		return 0
	}
	value, _ := strconv.Atoi(string(fields[field]))
	return value
}
