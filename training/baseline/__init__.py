"""What the model is measured against: openSMILE functionals and a support vector machine."""
