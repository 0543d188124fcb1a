package stream

import "time"

// CheckBlockedAfter shortens the wait before a follower checks what blocks it.
func (c *Client) CheckBlockedAfter(d time.Duration) { c.blockedWait = d }
