package main

import (
	"io"
	"os"
	"path/filepath"
)

// install copies this program to dest, for an image that does not carry it. The rename makes it appear whole or not at
// all; the mode lets any uid run it and nobody write it.
func install(dest string) (err error) {
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.CreateTemp(filepath.Dir(dest), ".launcher-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			target.Close()
			os.Remove(target.Name())
		}
	}()
	if _, err = io.Copy(target, source); err != nil {
		return err
	}
	if err = target.Chmod(0o555); err != nil {
		return err
	}
	if err = target.Sync(); err != nil {
		return err
	}
	if err = target.Close(); err != nil {
		return err
	}
	return os.Rename(target.Name(), dest)
}
