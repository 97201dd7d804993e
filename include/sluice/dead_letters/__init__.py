"""Dead letters: messages that failed each of ten times, what each is about, and their way back."""
