// Package slow makes a peer that reads less than it is sent.
package slow

import (
	"io"
	"time"
)

// A Reader reads nothing for Pause, then at most Rate bytes a second (0: as fast as it comes).
type Reader struct {
	Source io.Reader
	Rate   int64
	Pause  time.Duration
	start  time.Time
	read   int64
}

func (s *Reader) Read(p []byte) (int, error) {
	if s.start.IsZero() {
		time.Sleep(s.Pause)
		s.start = time.Now()
	}
	n, err := s.Source.Read(p)
	s.read += int64(n)
	if s.Rate > 0 {
		due := s.start.Add(time.Duration(float64(s.read) / float64(s.Rate) * float64(time.Second)))
		time.Sleep(time.Until(due))
	}
	return n, err
}
