// The launcher is the first process of the untrusted container. It starts the code under evaluation with less than it
// has itself, turns everything the code writes into numbered frames on its own stdout, ends the whole process tree in
// bounded time, and sends what the code left behind as artifacts. docs/output-frames.md describes what it emits.
package main

import (
	"os"
	"runtime"

	"crucible.dev/launcher/internal/stage"
	"crucible.dev/launcher/internal/supervise"
)

// version is set by the linker: -ldflags "-X main.version=…".
var version = "dev"

const usage = "usage: launcher run SETTINGS | launcher install DEST | launcher version\n"

func init() {
	// The exec stage filters the thread that becomes the code, so that thread has to be the one main runs on.
	runtime.LockOSThread()
}

func main() {
	os.Exit(command(os.Args[1:]))
}

func command(args []string) int {
	switch {
	case len(args) == 2 && args[0] == "run":
		runtime.UnlockOSThread()
		return supervise.Run(args[1])
	case len(args) == 3 && args[0] == stage.Command:
		return stage.Run(args[1], args[2])
	case len(args) == 2 && args[0] == "install":
		if err := install(args[1]); err != nil {
			os.Stderr.WriteString("launcher: " + err.Error() + "\n")
			return 125
		}
		return 0
	case len(args) == 1 && args[0] == "version":
		os.Stdout.WriteString(version + "\n")
		return 0
	}
	os.Stderr.WriteString(usage)
	return 125
}
