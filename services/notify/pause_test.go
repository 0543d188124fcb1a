package notify

import (
	"testing"
	"time"
)

// The pauses of a mail grow until they are two hours, and are not those of another mail.
func TestPausesGrow(t *testing.T) {
	var before time.Duration
	different := 0
	for tries := 1; tries <= 20; tries++ {
		pause := DefaultRetries.pause(tries, "a")
		least := DefaultRetries.Pauses[min(tries, len(DefaultRetries.Pauses))-1]
		if pause < least || pause > least*11/10 {
			t.Errorf("the pause after attempt %d is %v, want %v and a tenth more at most", tries, pause, least)
		}
		if tries <= len(DefaultRetries.Pauses) && pause <= before {
			t.Errorf("the pause after attempt %d is %v, after %v before", tries, pause, before)
		}
		if pause != DefaultRetries.pause(tries, "b") {
			different++
		}
		before = pause
	}
	if before < 2*time.Hour || different < 15 {
		t.Errorf("the last pause is %v; %d of 20 pauses differ between two mails", before, different)
	}
}
