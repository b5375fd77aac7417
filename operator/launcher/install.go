package main

import (
	"io"
	"os"
	"path/filepath"

	"crucible.dev/launcher/internal/stage"
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
	if err = os.Rename(target.Name(), dest); err != nil {
		return err
	}
	return sealMessage(filepath.Dir(dest))
}

// sealMessage makes the place for Kubernetes' termination message file: in a folder that nobody but root enters. The
// code has the same uid and sees the volume read-only, so it cannot open the folder up again.
func sealMessage(directory string) error {
	file := filepath.Join(directory, stage.SealedName)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(file), 0o700); err != nil { // closed by an earlier start
		return err
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	return os.Chmod(filepath.Dir(file), 0)
}
