package trailgen

import (
	"slices"

	"example.org/ordertrail/trail"
)

// cross adds links between stories that keep them apart.
func (b *builder) cross(stories int) {
	for range b.IntN(4) {
		two := b.Perm(stories)[:2]
		from, to := b.one(two[0]), b.one(two[1])
		if len(from.Links) >= 8 || from.Attributes["messaging.nats.message.delivery_count"] != nil || from.Attributes["messaging.servicebus.message.delivery_count"] != nil {
			continue
		}
		if b.keyed && from.Attributes[Key] != nil && to.Attributes[Key] != nil {
			b.link(from, to)
		} else {
			from.Links = append(from.Links, trail.Link{Ref: to.Ref, Attributes: trail.Attributes{"link.untrusted": true}})
		}
	}
}

// batch adds a batch with messages of some stories, and children.
func (b *builder) batch(stories []int) {
	s := b.span(stories[0], nil, "consumer")
	delete(s.Attributes, Key)
	s.Attributes[[]string{"messaging.operation.type", "messaging.operation"}[b.IntN(2)]] = []string{"receive", "process"}[b.IntN(2)]
	s.style, s.story = b.IntN(asParents), -1
	of := map[int]int{}
	seen := map[*span]bool{}
	want := max(2, len(stories)+b.IntN(10))
	for i := range want {
		story := stories[i%len(stories)]
		if to := b.one(story); !seen[to] {
			seen[to] = true
			of[story]++
			b.link(s, to)
			if b.keyed && b.IntN(2) == 0 {
				s.Links[len(s.Links)-1].Attributes[Key] = b.value(story)
			}
		}
	}
	if len(s.Links) <= 8 {
		s.Attributes["messaging.batch.message_count"] = int64(max(2, len(s.Links)))
	}
	if b.IntN(5) == 0 {
		s.DroppedLinks = 3
	}
	lacking := b.IntN(5) == 0
	if lacking {
		b.astray(s)
	}
	if len(of) == 1 && s.DroppedLinks == 0 && !lacking {
		s.story = stories[0]
		b.grow(s.story, s, 2)
		return
	}
	b.borders[s] = of
	for range b.IntN(3) { // cut off
		child := b.span(-1, s, "internal")
		delete(child.Attributes, Key)
		child.story = -1 - len(b.spans)
		of[child.story] = 0
	}
	to := b.one(stories[0])
	own := b.span(stories[0], s, "internal") // it has a link of its own
	if valued := slices.ContainsFunc(s.Links, func(l trail.Link) bool { return l.Attributes[Key] == b.value(stories[0]) }); valued {
		own.Attributes[Key] = b.value(stories[0]) // or a value
		if b.IntN(2) == 0 {
			return
		}
	}
	own.style = ours
	b.link(own, to)
	of[stories[0]] += 0
}
