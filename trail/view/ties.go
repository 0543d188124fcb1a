package view

import (
	"cmp"
	"fmt"
	"maps"

	"example.org/ordertrail/trail"
)

// tie sets the badges and the edges of each row.
func (w *Waterfall) tie(edges []trail.Edge, places map[trail.Ref]*place, chosen string) {
	causes, led := map[trail.Ref][]Tie{}, map[trail.Ref][]Tie{}
	labels := map[string]string{}
	for _, p := range places {
		labels[p.node.SpanID] = short(p.node.Service + ": " + p.node.Name)
	}
	label := func(r trail.Ref) string { return cmp.Or(labels[r.SpanID], "span "+r.SpanID) }
	for _, e := range edges {
		from, to := places[e.From], places[e.To]
		if e.Kind == trail.EdgeParent && (from == nil || to == nil || !asynchronous(e, from.node, to.node)) {
			continue
		}
		back, forth := e.Relationship, e.Relationship
		switch e.Kind {
		case trail.EdgeRetry:
			back, forth = "the delivery before", "the next delivery"
		case trail.EdgeParent:
			back, forth = "child of", "its child"
		}
		t := Tie{Ref: e.From, Label: label(e.From), Relationship: back, Attributes: e.Attributes, Wait: e.Wait, Missing: e.Missing, Elsewhere: e.Elsewhere, External: e.External}
		causes[e.To] = append(causes[e.To], t)
		t = Tie{Ref: e.To, Label: label(e.To), Relationship: forth, Wait: e.Wait}
		if to == nil || e.From.SpanID == chosen { // else they are with the span that has the link: pages stay small
			t.Attributes = e.Attributes
		}
		led[e.From] = append(led[e.From], t)
	}
	left := tiesShown
	for _, g := range w.Groups {
		for _, l := range g.Lanes {
			for i := range l.Rows {
				r := &l.Rows[i]
				// fewer returns the first ties, and the number of the others.
				fewer := func(all []Tie) (first []Tie, more int) {
					n := min(len(all), maxTies)
					if r.SpanID != chosen {
						n = min(n, max(1, left))
						left -= n
					}
					return all[:n:n], len(all) - n
				}
				for _, e := range r.Lost {
					causes[r.Ref] = append(causes[r.Ref], Tie{Ref: e.From, Label: label(e.From), Relationship: "lost: " + e.Relationship})
				}
				r.Badges = badges(r.Node)
				r.Causes, r.MoreCauses = fewer(causes[r.Ref])
				r.Led, r.MoreLed = fewer(led[r.Ref])
				if r.SpanID == chosen {
					continue
				}
				for i, c := range r.Causes { // what repeats the span's own would make pages too heavy
					r.Causes[i].Attributes = maps.Clone(c.Attributes)
					maps.DeleteFunc(r.Causes[i].Attributes, func(key string, value any) bool {
						return value == r.Attributes[key] || value == any(c.Relationship) || value == any(c.Ref.TraceID)
					})
				}
			}
		}
	}
}

func badges(n trail.Node) (all []Badge) {
	if n.Status == trail.StatusError || n.ErrorType != "" {
		all = append(all, Badge{"failed", "failed"})
	}
	if n.Delivery > 1 && n.Attributes.Text("messaging.operation.type") == "process" {
		all = append(all, Badge{"retry", fmt.Sprintf("delivery %d", n.Delivery)})
	}
	if n.Settlement != "" && n.Settlement != "ack" {
		all = append(all, Badge{"retry", n.Settlement})
	}
	if n.Compensation {
		all = append(all, Badge{"undo", "undo"})
	}
	if n.Batch != nil {
		all = append(all, Badge{"batch", fmt.Sprintf("batch: %d of %d", n.Batch.Own, n.Batch.Links)})
	}
	if len(n.Lost) > 0 {
		all = append(all, Badge{"failed", fmt.Sprintf("loses %d of %s", len(n.Lost), trail.Counted(len(n.Lost)+1, "cause"))})
	}
	return all
}
