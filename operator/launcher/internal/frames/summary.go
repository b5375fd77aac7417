package frames

import (
	"encoding/json"
	"strings"
)

// Reasons why a run ended.
const (
	Exited      = "exited"
	Signalled   = "signalled"
	TimedOut    = "timeout"
	Terminated  = "terminated"
	StartFailed = "startFailed"
)

// ArtifactStats is what the summary says about artifacts.
type ArtifactStats struct {
	Count    int64 `json:"count"`
	Bytes    int64 `json:"bytes"`
	Complete bool  `json:"complete"`
	Refused  int64 `json:"refused"`
}

// Report is the launcher's own account of a run, the last frame.
type Report struct {
	Version  int     `json:"version"`
	ExitCode *int    `json:"exitCode"`
	Signal   *string `json:"signal"`
	TimedOut bool    `json:"timedOut"`
	Reason   string  `json:"reason"`
	// PidsLimitHit: the code was seen at its limit of processes.
	PidsLimitHit     bool          `json:"pidsLimitHit"`
	Stdout           StreamStats   `json:"stdout"`
	Stderr           StreamStats   `json:"stderr"`
	Artifacts        ArtifactStats `json:"artifacts"`
	WallSeconds      float64       `json:"wallSeconds"`
	CPUUserSeconds   float64       `json:"cpuUserSeconds"`
	CPUSystemSeconds float64       `json:"cpuSystemSeconds"`
	MaxRSSBytes      int64         `json:"maxRssBytes"`
	// DiskFull: a folder that the code may write to had no room left when it ended.
	DiskFull bool   `json:"diskFull,omitempty"`
	Error    string `json:"error,omitempty"`
}

const maxError = 1 << 10

// EmitReport emits the summary. It always fits: SummaryRoom was kept free for it.
func EmitReport(emitter *Emitter, report *Report) bool {
	report.Version = 1
	report.Error = clip(report.Error, maxError)
	text, err := json.Marshal(report)
	if err != nil || len(text) > MaxSummary {
		report.Error = "the error text could not be encoded"
		if text, err = json.Marshal(report); err != nil {
			return false
		}
	}
	return emitter.Emit(Summary, Newline, text, 0)
}

func clip(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
