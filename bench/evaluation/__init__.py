"""How a model is scored: lm-eval runs the tasks; a question's row keeps all that its score was made from."""
