// Package settings reads the file that tells the launcher what to run. The operator writes it; what it does not know it
// refuses, because a field that is ignored silently is a limit that does not hold.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"crucible.dev/launcher/internal/glob"
)

// Version of the file's format.
const Version = 1

const (
	maxFileBytes = 1 << 20 // a ConfigMap holds no more
	maxSeconds   = 31 * 24 * 3600
	// MinEmittedBytes is room for the receipt, the closing frames and one full line.
	MinEmittedBytes = 32 << 10
	// MinProcesses leaves room for the launcher's own threads, which count against the same uid.
	MinProcesses = 32
	maxPatterns  = 64
)

// Artifacts says which files are sent after the code has ended.
type Artifacts struct {
	Paths    []string `json:"paths"`
	MaxBytes int64    `json:"maxBytes"`
	MaxFiles int64    `json:"maxFiles"`
}

// Limits are the hard resource limits (setrlimit) of the code.
type Limits struct {
	FileSizeBytes uint64 `json:"fileSizeBytes"`
	Processes     uint64 `json:"processes"`
	OpenFiles     uint64 `json:"openFiles"`
}

// Settings of one run.
type Settings struct {
	Version         int               `json:"version"`
	Command         []string          `json:"command"`
	Cwd             string            `json:"cwd"`
	Env             map[string]string `json:"env"`
	StdinPath       string            `json:"stdinPath"`
	TimeoutSeconds  float64           `json:"timeoutSeconds"`
	GraceSeconds    float64           `json:"graceSeconds"`
	MaxStreamBytes  int64             `json:"maxStreamBytes"`
	MaxEmittedBytes int64             `json:"maxEmittedBytes"`
	Artifacts       *Artifacts        `json:"artifacts"`
	Limits          Limits            `json:"limits"`
}

// Read reads and checks the file.
func Read(path string) (*Settings, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse checks the contents of a settings file.
func Parse(data []byte) (*Settings, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("settings are larger than %d bytes", maxFileBytes)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	settings := &Settings{}
	if err := decoder.Decode(settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("settings: something follows the JSON object")
	}
	if err := settings.check(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return settings, nil
}

func (s *Settings) check() error {
	if s.Version != Version {
		return fmt.Errorf("version is %d, this launcher reads %d", s.Version, Version)
	}
	if len(s.Command) == 0 || s.Command[0] == "" {
		return errors.New("command is empty")
	}
	for _, argument := range s.Command {
		if strings.IndexByte(argument, 0) >= 0 {
			return errors.New("command contains a NUL byte")
		}
	}
	if err := checkPath("cwd", s.Cwd); err != nil {
		return err
	}
	if s.StdinPath != "" {
		if err := checkPath("stdinPath", s.StdinPath); err != nil {
			return err
		}
	}
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("env %q is not a valid variable", name)
		}
	}
	if err := s.checkNumbers(); err != nil {
		return err
	}
	return s.Artifacts.check()
}

func (s *Settings) checkNumbers() error {
	switch {
	case !(s.TimeoutSeconds > 0 && s.TimeoutSeconds <= maxSeconds):
		return errors.New("timeoutSeconds must be above 0 and at most 31 days")
	case !(s.GraceSeconds >= 0 && s.GraceSeconds <= maxSeconds):
		return errors.New("graceSeconds must be from 0 to 31 days")
	case s.MaxStreamBytes < 0:
		return errors.New("maxStreamBytes is negative")
	case s.MaxEmittedBytes < MinEmittedBytes:
		return fmt.Errorf("maxEmittedBytes is below %d", MinEmittedBytes)
	case s.Limits.Processes < MinProcesses:
		return fmt.Errorf("limits.processes is below %d", MinProcesses)
	case s.Limits.OpenFiles < 8:
		return errors.New("limits.openFiles is below 8")
	case s.Limits.FileSizeBytes == 0:
		return errors.New("limits.fileSizeBytes is missing or 0")
	}
	return nil
}

func (a *Artifacts) check() error {
	if a == nil {
		return nil
	}
	if a.MaxBytes < 0 || a.MaxFiles < 0 {
		return errors.New("artifacts.maxBytes and maxFiles must not be negative")
	}
	if len(a.Paths) > maxPatterns {
		return fmt.Errorf("artifacts.paths has more than %d patterns", maxPatterns)
	}
	for _, pattern := range a.Paths {
		if _, err := glob.Compile(pattern); err != nil {
			return fmt.Errorf("artifacts.paths %q: %w", pattern, err)
		}
	}
	return nil
}

func checkPath(name, path string) error {
	if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("%s must be an absolute path", name)
	}
	return nil
}

// Environment is the complete environment of the code, sorted.
func (s *Settings) Environment() []string {
	variables := map[string]string{
		"PATH":   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME":   "/work",
		"TMPDIR": "/tmp",
		"LANG":   "C.UTF-8",
	}
	for name, value := range s.Env {
		variables[name] = value
	}
	environment := make([]string, 0, len(variables))
	for name, value := range variables {
		environment = append(environment, name+"="+value)
	}
	sort.Strings(environment)
	return environment
}

// Lookup returns the value of a variable in an environment.
func Lookup(environment []string, name string) string {
	for _, entry := range environment {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}
