"""What the end-to-end scripts share: a Waxwing, a Postfix and a sink of one's own, messages, and the case runner."""
